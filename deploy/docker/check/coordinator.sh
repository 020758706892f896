# In the coordinator's image: as whom it runs, that the root is read-only, that it starts and serves.
set -eu
[ "$(id -u)" = 10001 ]
if touch /opt/letheon/x 2> /dev/null; then echo "the root can be written"; exit 1; fi
if /opt/letheon/bin/python -c 'import torch' 2> /dev/null; then echo "torch is in it"; exit 1; fi
/opt/letheon/bin/python /mnt/tiny_plan.py /tmp/federation
cat > /tmp/coordinator.toml <<END
listen = "127.0.0.1:17300"
health_listen = "127.0.0.1:17301"
metrics_listen = "127.0.0.1:17302"
data_dir = "/var/lib/letheon/coordinator"
federation_dir = "/tmp/federation"
redis_url = "redis://127.0.0.1:1/0"
redis_wait_seconds = 1
END
letheon-coordinator migrate --config /tmp/coordinator.toml 2> /tmp/migrate.log \
  || { cat /tmp/migrate.log; exit 1; }
letheon-coordinator serve --config /tmp/coordinator.toml 2> /tmp/log &
service=$!
for _ in $(seq 60); do
  if letheon health 127.0.0.1:17301 > /tmp/health 2>&1; then break; fi
  kill -0 $service 2> /dev/null || { cat /tmp/log; exit 1; }
  sleep 0.5
done
cat /tmp/health
letheon health 127.0.0.1:17301 --service liveness
letheon status --coordinator 127.0.0.1:17300 | head -3
kill $service
wait $service
echo "coordinator: started as user $(id -u) on a read-only root, became ready, ended with 0"
