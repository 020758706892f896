"""An agent as a process of its own that tests arm with faults, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_agent import uploads_in

from letheon.servicekit import faults

_SCRIPT = Path(__file__).with_name("agent_child.py")
CONFIG = """
coordinator = "{address}"
site = "north"
state_dir = "{state}"
stop_grace_seconds = {grace}
[data]
plugin = "unused"
[training]
min_interval_seconds = {interval}
[poll]
minimum_seconds = 0.01
maximum_seconds = 0.2
heartbeat_seconds = 0.05
backoff_cap_seconds = 0.6
"""


def until(condition: Callable[[], Any], what: str, within_s: float = 60.0) -> None:
    """Looks again and again until it holds."""
    end, pause = time.monotonic() + within_s, threading.Event()
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not so within {within_s:.0f} s: {what}")
        pause.wait(0.02)


class KilledAgent:
    """One state directory and the processes that use it, one after the other."""

    def __init__(
        self,
        folder: Path,
        address: str,
        *,
        interval_s: float = 3600.0,
        grace_s: float = 10.0,
        more: str = "",
    ) -> None:
        """`more` is TOML that the configuration says besides."""
        self.state = folder / "state"
        self._folder = folder
        self._faults = folder / "faults"
        self._faults.mkdir()
        self._log = folder / "agent.log"
        self._config = folder / "agent.toml"
        self._config.write_text(
            CONFIG.format(address=address, state=self.state, interval=interval_s, grace=grace_s)
            + more
        )
        self.process: subprocess.Popen[bytes] | None = None

    def arm(self, point: str, fault: str) -> None:
        (self._faults / f"agent.{point}").write_text(fault)

    def fired(self, point: str) -> bool:
        return (self._faults / f"agent.{point}.taken").exists()

    def start(self) -> None:
        environment = {
            **os.environ,
            faults.DIRECTORY_VARIABLE: str(self._faults),
            faults.PROCESS_VARIABLE: "agent",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(_SCRIPT.parents[1]),
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(_SCRIPT), str(self._config), str(self._folder)],
                stderr=log,
                env=environment,
            )

    def killed(self) -> bool:
        assert self.process is not None
        return self.process.wait(60) == -signal.SIGKILL

    def stop(self) -> float:
        """SIGTERM; seconds until the process had ended with code 0."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log
        return time.monotonic() - began

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def states(self) -> list[str]:
        if not (self.state / "agent.db").exists():
            return []
        return [row["state"] for row in uploads_in(self.state)]

    def files(self, folder: str) -> int:
        return len(list((self.state / folder).iterdir()))

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
