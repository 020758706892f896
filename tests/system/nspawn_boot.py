"""Boots a real systemd with the agent's unit in it: `make boot-unit` (root; systemd-container).

The machine's own /usr is the container's, read-only; everything else begins empty in memory. A
coordinator with TLS runs outside; the agent gets its key as a systemd credential. Prints what
systemd says when the unit is up and enrolled, and after its main process was stopped (SIGSTOP) so
that the watchdog has to act.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "contract")]

import numpy  # noqa: E402
from scripted_coordinator import SIDE, ScriptedCoordinator, a_plan  # noqa: E402
from tls_files import Authority, server_credentials  # noqa: E402

from client_agent.config_text import config_text  # noqa: E402

UNITS = ROOT / "deploy" / "systemd"
PROGRAM = "/opt/letheon-agent"  # /usr is read-only there
INTERPRETER = "/opt/python"
LIMIT_S = 300
PROBE = """\
#!/bin/bash
show() { systemctl show letheon-agent -p ActiveState -p SubState -p StatusText -p NRestarts; }
wait_for() { for _ in $(seq 200); do "$@" && return; sleep 0.2; done; echo "gave up: $*"; }
enrolled() { systemctl show letheon-agent -p StatusText | grep -q enrolled; }
restarted() { ! systemctl show letheon-agent -p NRestarts | grep -q '=0$'; }
{
  wait_for enrolled
  echo "--- enrolled"; show
  stat -c '%a %U %n' /var/lib/letheon-agent
  ps -eo user:16=,args= | grep [c]lient_agent | cut -c1-100
  echo "--- doctor as the agent's user"
  systemd-run --quiet --wait --pipe -p User=letheon-agent \\
    -p LoadCredential=agent.key:/etc/letheon/agent.key /opt/letheon-agent doctor
  kill -STOP "$(systemctl show letheon-agent -p MainPID --value)"
  wait_for restarted
  wait_for enrolled
  echo "--- after its main process was stopped"; show
  echo "--- journal"
  journalctl -u letheon-agent -o cat --no-pager | cut -c1-220 | tail -30
} > /run/probe/out 2>&1
systemctl poweroff --force
"""
PROBE_UNIT = """\
[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/bash /run/probe/probe.sh
[Install]
WantedBy=multi-user.target
"""
SHORT_WATCHDOG = "[Service]\nWatchdogSec=8\nRestartSec=1\nTimeoutStopSec=3\n"


def main() -> int:
    """Boots, waits for the probe, prints what it wrote."""
    program = shutil.which("systemd-nspawn")
    if program is None:
        sys.stderr.write("there is no systemd-nspawn: apt-get install systemd-container (root)\n")
        return 78
    with tempfile.TemporaryDirectory(prefix="letheon-boot-", dir="/var/tmp") as name:
        folder = Path(name)
        authority = Authority(folder)
        own = authority.issue("north")
        coordinator = ScriptedCoordinator(*a_plan())
        coordinator.start(credentials=server_credentials(authority.issue("server"), authority))
        try:
            return _boot(program, folder, authority, own.certificate, own.key, coordinator.address)
        finally:
            coordinator.stop()


def _boot(
    program: str, folder: Path, authority: Authority, certificate: Path, key: Path, address: str
) -> int:
    etc, probe = folder / "etc", folder / "probe"
    etc.mkdir()
    probe.mkdir()
    shutil.copy(authority.certificate, etc / "ca.pem")
    shutil.copy(certificate, etc / "agent.pem")
    shutil.copy(key, etc / "agent.key")
    images = {"records": 80, "classes": 2, "channels": 1, "height": SIDE, "width": SIDE}
    config = {
        "coordinator": address,
        "site": "north",
        "state_dir": "/var/lib/letheon-agent",
        "data": {"plugin": "synthetic", "arguments": images},
        "tls": {
            "ca": "/etc/letheon/ca.pem",
            "certificate": "/etc/letheon/agent.pem",
            "key": "$CREDENTIALS_DIRECTORY/agent.key",
        },
    }
    (etc / "agent.toml").write_text(config_text(config))
    (probe / "probe.sh").write_text(PROBE)
    (folder / "probe.service").write_text(PROBE_UNIT)
    (folder / "watchdog.conf").write_text(SHORT_WATCHDOG)
    command = folder / "letheon-agent"
    python = Path(sys.executable).resolve()
    libraries = Path(numpy.__file__).parents[1]
    # The interpreter may lie where only root looks, so the container has it elsewhere.
    command.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={ROOT}:{libraries} PYTHONDONTWRITEBYTECODE=1\n"
        f"export LD_LIBRARY_PATH={INTERPRETER}/lib\n"
        f'exec {INTERPRETER}/bin/{python.name} -m client_agent.cli "$@"\n'
    )
    command.chmod(0o755)
    unit = folder / "letheon-agent.service"
    unit.write_text(
        (UNITS / unit.name).read_text().replace("/usr/local/bin/letheon-agent", PROGRAM)
    )
    system = "/etc/systemd/system"
    binds = {
        unit: f"{system}/letheon-agent.service",
        folder / "watchdog.conf": f"{system}/letheon-agent.service.d/watchdog.conf",
        UNITS / "letheon-agent.sysusers.conf": "/etc/sysusers.d/letheon-agent.conf",
        folder / "probe.service": f"{system}/probe.service",
        etc: "/etc/letheon",
        command: PROGRAM,
    }
    arguments = [f"--bind-ro={source}:{target}" for source, target in binds.items()]
    arguments += [f"--bind-ro={ROOT}", f"--bind-ro={libraries}"]
    arguments.append(f"--bind-ro={python.parents[1]}:{INTERPRETER}")
    done = subprocess.run(
        [program, "--directory=/", "--volatile=yes", "--boot", "--register=no", "--keep-unit",
         "--console=pipe", f"--bind={probe}:/run/probe", *arguments,
         "systemd.unit=multi-user.target", "systemd.wants=letheon-agent.service",
         "systemd.wants=probe.service"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    out = probe / "out"
    if not out.exists():
        sys.stderr.write(done.stdout[-6000:])
        return 1
    text = out.read_text()
    sys.stdout.write(text)
    return int("gave up" in text)


if __name__ == "__main__":
    sys.exit(main())
