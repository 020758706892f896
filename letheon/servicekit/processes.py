"""Child processes that are never orphaned."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from letheon.errors import BadConfig, Refused

_WITH_PARENT = Path(__file__).with_name("with_parent.py")


class _Spawner:
    """The thread that creates all children of this process.

    The kernel's death signal fires when the creating *thread* ends, not the process; a worker
    thread that starts a child and ends would take the child with it. This thread ends only with
    the process.
    """

    _lock = threading.Lock()
    _current: _Spawner | None = None

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._orders: queue.SimpleQueue[
            tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]
        ] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="spawner", daemon=True).start()

    @classmethod
    def of_this_process(cls) -> _Spawner:
        """The one spawner; a process that was forked makes its own."""
        with cls._lock:
            if cls._current is None or cls._current.owner != os.getpid():
                cls._current = cls()
            return cls._current

    def spawn(self, create: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Runs `create` on the spawner's thread and returns or raises what it does."""
        done: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((create, done))
        return done.result()

    def _serve(self) -> None:
        while True:
            create, done = self._orders.get()
            try:
                done.set_result(create())
            except BaseException as error:  # noqa: BLE001 - handed to the caller of spawn
                done.set_exception(error)


class Child:
    """A program that runs beside this one and dies with it, even by kill -9.

    Its output is appended to the log file. It has a session of its own, so Ctrl-C in a terminal
    reaches only this process, which then stops its children in order.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log_path: Path,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = tuple(str(word) for word in command)
        self.name = name if name is not None else Path(self.command[0]).name
        self.log_path = log_path
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Starts the program; starting again after it ended is fine.

        Raises BadConfig if there is no such program, Refused if it runs already.
        """
        if self.poll() is None and self._process is not None:
            raise Refused(f"{self.name} runs already", pid=self.pid)
        path = self._env.get("PATH") if self._env is not None else None
        program = shutil.which(self.command[0], path=path)
        if program is None:
            raise BadConfig(f"there is no program {self.command[0]}")
        launch = [sys.executable, "-I", "-S", str(_WITH_PARENT), str(os.getpid())]
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = _Spawner.of_this_process().spawn(
                lambda: subprocess.Popen(
                    [*launch, str(Path(program).absolute()), *self.command[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._cwd,
                    start_new_session=True,
                )
            )
        return self

    @property
    def pid(self) -> int:
        """Process id. Raises Refused before the start."""
        return self._started().pid

    def poll(self) -> int | None:
        """Exit status (negative: the signal), or None while it runs or before the start."""
        return None if self._process is None else self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Waits for the end; the exit status. Raises TimeoutError."""
        try:
            return self._started().wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout_s} s") from None

    def stop(self, grace_s: float = 10.0) -> int:
        """SIGTERM, and SIGKILL if it still runs after the grace; the exit status."""
        process = self._started()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def kill(self) -> int:
        """SIGKILL; the exit status."""
        process = self._started()
        if process.poll() is None:
            process.kill()
        return process.wait()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its output, for an error message."""
        try:
            with self.log_path.open(encoding="utf-8", errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except FileNotFoundError:
            return ""

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise Refused(f"{self.name} was not started")
        return self._process


class Supervisor:
    """A set of children; leaving its `with` block stops them, the last one started first."""

    def __init__(self, *, grace_s: float = 10.0) -> None:
        self._grace_s = grace_s
        self._children: list[Child] = []

    def start(self, child: Child) -> Child:
        """Starts the child and keeps it."""
        child.start()
        self._children.append(child)
        return child

    def ended(self) -> tuple[Child, ...]:
        """Children that do not run any more."""
        return tuple(child for child in self._children if child.poll() is not None)

    def stop(self) -> None:
        """Stops all children in reverse order of their start. Repeating it is harmless."""
        while self._children:
            self._children[-1].stop(self._grace_s)
            self._children.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
