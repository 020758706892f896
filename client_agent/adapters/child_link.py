"""One training process and the pipe to it."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from client_agent.domain.tasks import TaskAbandoned, TrainingProcessDied
from client_agent.training_child.lines import (
    Abandon,
    Abandoned,
    Command,
    Failure,
    Reply,
    Result,
    parse_reply,
)

_LOOK_AGAIN_S = 0.2
_ABANDON_GRACE_S = 10.0
# Without it cuBLAS gives other digits from run to run; it is read before the GPU is first used.
_DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


class ChildLink:
    """A started process; commands go one at a time, from one thread.

    Start it from the daemon's main thread: the kernel ends the child with the thread that
    started it.
    """

    def __init__(
        self,
        *,
        memory_limit_bytes: int | None,
        log_level: str,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_wait` is called again and again while a command runs."""
        limit = [] if memory_limit_bytes is None else [str(memory_limit_bytes)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "client_agent.training_child", str(os.getpid()), *limit],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **_DETERMINISTIC, "LETHEON_LOG_LEVEL": log_level},
            # Ctrl-C at a terminal is for the daemon, which then stops the child in order.
            start_new_session=True,
        )
        self._on_wait = on_wait
        self._replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._writing = threading.Lock()  # held only for one short line
        self._last_id = 0
        self._in_flight: int | None = None
        self._abandoned_at: float | None = None
        threading.Thread(target=self._read, name="training-replies", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def ask(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sends a command and waits for its reply.

        Raises TaskAbandoned, TrainingProcessDied, or the LetheonError the child replied.
        """
        with self._writing:
            self._last_id += 1
            self._in_flight, self._abandoned_at = self._last_id, None
            command = Command(self._last_id, name, arguments)
        self._write(command.line())
        try:
            reply = self._reply()
        finally:
            with self._writing:
                self._in_flight = None
        match reply:
            case Result(_, values):
                return values
            case Failure(_, error):
                raise error
            case Abandoned():
                raise TaskAbandoned

    def abandon(self) -> None:
        """Gives the command in flight up; from any thread."""
        with self._writing:
            number = self._in_flight
            if number is None or self._abandoned_at is not None:
                return
            self._abandoned_at = time.monotonic()
        self._write(Abandon(number).line())

    def end(self, grace_s: float) -> None:
        """Ends the process: its stdin ends first, SIGKILL follows after the grace."""
        with self._writing:
            # A moment is enough: from here on a death is the wanted one.
            self._abandoned_at = self._abandoned_at or time.monotonic()
            with contextlib.suppress(OSError):
                if self._process.stdin is not None:
                    self._process.stdin.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _write(self, line: str) -> None:
        # A dead child is noticed by the end of its stdout, which is where its code is known.
        with self._writing, contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()

    def _reply(self) -> Reply:
        while True:
            self._on_wait()
            try:
                reply = self._replies.get(timeout=_LOOK_AGAIN_S)
            except queue.Empty:
                began = self._abandoned_at
                if began is not None and time.monotonic() - began > _ABANDON_GRACE_S:
                    self._process.kill()
                continue
            if reply is not None:
                return reply
            returncode = self._process.wait()
            if self._abandoned_at is not None:
                return Abandoned(self._last_id)
            raise TrainingProcessDied(
                f"the training process ended with code {returncode}", returncode=returncode
            )

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self._replies.put(parse_reply(line))
        self._replies.put(None)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None
