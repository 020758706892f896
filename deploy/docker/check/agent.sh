# In the agent's image: its plug-ins are there, and a sample configuration is read.
set -eu
[ "$(id -u)" = 10001 ]
if touch /opt/letheon/x 2> /dev/null; then echo "the root can be written"; exit 1; fi
letheon-agent version
/opt/letheon/bin/python -c 'import torch, monai, pydicom, nibabel; print("torch", torch.__version__)'
cat > /tmp/agent.toml <<END
coordinator = "127.0.0.1:1"
site = "north"
state_dir = "/var/lib/letheon/agent"
[data]
plugin = "synthetic"
arguments = { records = 20, classes = 2, channels = 1, height = 16, width = 16 }
END
letheon-agent check-config --config /tmp/agent.toml
echo "agent: started as user $(id -u) on a read-only root"
