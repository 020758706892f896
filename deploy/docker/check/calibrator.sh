# In the calibrator's image: it starts, answers its probes, waits for what is not there, and ends.
set -eu
[ "$(id -u)" = 10001 ]
if touch /opt/letheon/x 2> /dev/null; then echo "the root can be written"; exit 1; fi
/opt/letheon/bin/python -c 'import torch, monai; print("torch", torch.__version__)'
cat > /tmp/calibrator.toml <<END
coordinator = "127.0.0.1:1"
redis_url = "redis://127.0.0.1:1/0"
name = "image-check"
state_dir = "/var/lib/letheon/calibrator"
health_listen = "127.0.0.1:17303"
END
letheon-calibrator --config /tmp/calibrator.toml 2> /tmp/log &
service=$!
for _ in $(seq 60); do
  if letheon health 127.0.0.1:17303 --service liveness > /tmp/health 2>&1; then break; fi
  kill -0 $service 2> /dev/null || { cat /tmp/log; exit 1; }
  sleep 0.5
done
cat /tmp/health
if letheon health 127.0.0.1:17303; then echo "ready without a coordinator"; exit 1; fi
kill $service
wait $service
echo "calibrator: started as user $(id -u) on a read-only root, waited for its coordinator, ended with 0"
