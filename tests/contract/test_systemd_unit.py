"""The systemd units: how they are hardened, and the daemon as systemd would run and watch it."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_trainer import QuickTrainer
from running_agent import RunningAgent, a_config
from scripted_coordinator import SIDE, ScriptedCoordinator, a_plan

from client_agent.config_text import config_text
from client_agent.daemon import EXIT_CONFIG

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
PROGRAM = "/usr/local/bin/letheon-agent"
FOREVER = {"local_steps": 10_000_000, "batch_size": 8}


def keys_of(unit: str) -> dict[str, str]:
    """Keys of [Service]; of a repeated one the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / unit)
    return dict(parser["Service"])


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    """Of the agent."""
    return keys_of("letheon-agent.service")


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no systemd-analyze: make system-deps")
        pytest.skip("there is no systemd-analyze here")
    return found


def test_there_is_a_unit_of_each_service() -> None:
    assert [f"letheon-{n}.service" for n in ("agent", "calibrator", "coordinator")] == SERVICES


@pytest.mark.parametrize("unit", SERVICES)
def test_its_exposure_is_at_most_two_of_ten(analyze: str, unit: str) -> None:
    command = [analyze, "security", "--offline=true", "--threshold=20", str(UNITS / unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    last = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0, last or done.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_systemd_understands_every_line(analyze: str, unit: str, tmp_path: Path) -> None:
    copy = tmp_path / unit
    program = shlex.split(keys_of(unit)["ExecStart"])[0]
    assert program == f"/usr/local/bin/{unit.removesuffix('.service')}"
    copy.write_text((UNITS / unit).read_text().replace(program, sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60
    )
    ours = [line for line in done.stderr.splitlines() if unit in line]
    assert ours == []


@pytest.mark.parametrize("unit", SERVICES)
def test_it_is_started_again_after_any_end_that_needs_no_human(unit: str) -> None:
    keys = keys_of(unit)
    assert keys["Restart"] == "always"
    assert str(EXIT_CONFIG) in keys["RestartPreventExitStatus"].split()


def test_it_is_not_started_again_when_a_human_is_needed(service: dict[str, str]) -> None:
    assert service["RestartPreventExitStatus"] == str(EXIT_CONFIG)
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert service["StateDirectory"] == "letheon-agent"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(60)
        yield made


def told(supervisor: socket.socket, wanted: str) -> list[str]:
    """Everything up to and with the message that is waited for."""
    heard: list[str] = []
    while wanted not in heard:
        heard.append(supervisor.recv(4096).decode())
    return heard


def test_the_daemon_says_when_it_is_up_feeds_the_watchdog_and_says_that_it_stops(
    service: dict[str, str], supervisor: socket.socket, tmp_path: Path
) -> None:
    coordinator = ScriptedCoordinator(*a_plan(training=FOREVER)).start()
    config = tmp_path / "agent.toml"
    images = {"records": 80, "classes": 2, "channels": 1, "height": SIDE, "width": SIDE}
    config.write_text(
        config_text(
            {
                "coordinator": coordinator.address,
                "site": "north",
                "state_dir": str(tmp_path / "state"),
                "data": {"plugin": "synthetic", "arguments": images},
            }
        )
    )
    command = shlex.split(service["ExecStart"])
    assert command[0] == PROGRAM
    command[0] = str(Path(sys.executable).with_name("letheon-agent"))
    command[command.index("--config") + 1] = str(config)
    told_by_systemd = {
        "NOTIFY_SOCKET": str(supervisor.getsockname()),
        "WATCHDOG_USEC": "1000000",
    }
    daemon = subprocess.Popen(
        command, env={**os.environ, **told_by_systemd}, stderr=subprocess.DEVNULL
    )
    try:
        told(supervisor, "READY=1")
        coordinator.ask_to_train()
        # It trains for ever: the loop waits for one answer, and that is no silence.
        coordinator.until(lambda: len(coordinator.heartbeats) > 2)
        for _ in range(3):
            told(supervisor, "WATCHDOG=1")
        daemon.send_signal(signal.SIGTERM)
        told(supervisor, "STOPPING=1")
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait(60)
        coordinator.stop()


def test_a_loop_that_hangs_is_not_covered_up_by_its_signs_of_life(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(supervisor.getsockname()))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    coordinator = ScriptedCoordinator(*a_plan()).start()
    trainer, hanging = QuickTrainer(tmp_path), threading.Event()
    trainer.before_training.append(lambda: assert_waited(hanging))
    agent = RunningAgent(a_config(coordinator.address, tmp_path / "state"), trainer)
    try:
        coordinator.ask_to_train()
        coordinator.until(lambda: len(coordinator.heartbeats) > 0)
        supervisor.settimeout(0.3)  # longer than the watchdog waits
        with pytest.raises(TimeoutError):
            told(supervisor, "nothing says this")
        beats = len(coordinator.heartbeats)
        coordinator.until(lambda: len(coordinator.heartbeats) > beats)
    finally:
        hanging.set()
        agent.stop()
        coordinator.stop()


def assert_waited(event: threading.Event) -> None:
    assert event.wait(60)
