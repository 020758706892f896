"""The processes of a federation: started, restarted at once when they end, stopped in order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from letheon.errors import LetheonError
from letheon.servicekit.processes import Child

_LOOK_S = 0.05
_RESTART_PAUSE_S = 0.2  # of a process that ended by itself; a killed one starts at once


@dataclass(frozen=True)
class Exit:
    """One end of a process."""

    name: str
    code: int  # negative: the signal
    at: float  # monotonic seconds


class Fleet:
    """Keeps what should run running; `exits` is every end that `stop` did not ask for."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._wanted: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self.exits: list[Exit] = []
        self._thread = threading.Thread(target=self._tend, name="fleet", daemon=True)
        self._thread.start()

    def add(self, name: str, command: Sequence[str | Path], log: Path, env: dict[str, str]) -> None:
        """Starts a process and keeps it running."""
        with self._lock:
            self._children[name] = Child(command, log_path=log, name=name, env=env, cwd=Path.cwd())
        self.start(name)

    def start(self, name: str) -> None:
        """Starts what was stopped."""
        with self._lock:
            self._wanted.add(name)
            if self._children[name].poll() is not None or not self._has_started(name):
                self._children[name].start()

    def stop(self, name: str, grace_s: float = 15.0) -> int:
        """SIGTERM, and no restart; the exit status."""
        with self._lock:
            self._wanted.discard(name)
            child = self._children[name]
        self.signal(name, signal.SIGCONT)
        return child.stop(grace_s)

    def stop_together(self, names: Sequence[str]) -> None:
        """Stops several at once."""
        with ThreadPoolExecutor(max(1, len(names))) as pool:
            list(pool.map(self.stop, names))

    def kill(self, name: str) -> None:
        """SIGKILL; the restart follows."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to a process that runs; one that has just ended gets none."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            child = self._children[name]
            if child.poll() is None and self._has_started(name):
                os.kill(child.pid, number)

    def wait_end(self, name: str, timeout_s: float) -> int:
        """Waits for the end of a process that nobody restarts."""
        return self._children[name].wait(timeout_s)

    def ended(self, name: str) -> bool:
        """Whether the process does not run now."""
        return self._children[name].poll() is not None

    def run_once(self, name: str) -> None:
        """Starts a process that is not restarted when it ends."""
        with self._lock:
            self._wanted.discard(name)
            self._children[name].start()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of their first start."""
        return tuple(self._children)

    def close(self) -> None:
        """Stops what runs."""
        self._over.set()
        self._thread.join(10)
        self.stop_together([name for name in self.names if self._has_started(name)])

    def _has_started(self, name: str) -> bool:
        try:
            return self._children[name].pid > 0
        except LetheonError:
            return False

    def _tend(self) -> None:
        while not self._over.wait(_LOOK_S):
            with self._lock:
                for name in tuple(self._wanted):
                    self._revive(name)

    def _revive(self, name: str) -> None:
        child = self._children[name]
        code = child.poll()
        now = time.monotonic()
        if code is None:
            return
        if name not in self._not_before:
            self.exits.append(Exit(name, code, now))
            pause_s = 0.0 if code == -signal.SIGKILL else _RESTART_PAUSE_S
            self._not_before[name] = now + pause_s
        if now >= self._not_before[name]:
            del self._not_before[name]
            child.start()


def until(what: Callable[[], object], within_s: float, look_s: float = 0.05) -> bool:
    """Whether it became true in time; what the coordinator cannot answer counts as not yet."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with contextlib.suppress(LetheonError):
            if what():
                return True
        time.sleep(look_s)
    return False


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that work in the folder or were given a path in it, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except psutil.Error:
            continue
        if any(str(folder) in word for word in words) and process.pid != os.getpid():
            found.append(process)
    return found
