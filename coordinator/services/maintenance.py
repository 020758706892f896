"""The background work of the coordinator, in one thread: none of it is needed to be correct."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from letheon.errors import LetheonError
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)
_SAY_EVERY_S = 30.0  # of a chore that fails for the same reason each time


class Maintenance:
    """Runs each chore in turn, every so often and when woken."""

    def __init__(
        self,
        chores: Mapping[str, Callable[[], object]],
        clock: Clock,
        *,
        every_s: float,
        failed: Callable[[str], None] = lambda _chore: None,
    ) -> None:
        """`failed` is told the name of each chore that failed."""
        self._chores = chores
        self._clock = clock
        self._every_s = every_s
        self._failed = failed
        self._said: dict[str, tuple[str, float]] = {}  # chore -> reason, when to say it again
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def wake(self) -> None:
        """Something changed: look now."""
        self._wake.set()

    def stop(self) -> None:
        """Finishes the chore at hand and ends."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:  # a coordinator that is held never started it
            self._thread.join()

    def run_once(self) -> None:
        """Every chore, once. One that fails is logged and tried again next time."""
        for name, chore in self._chores.items():
            try:
                chore()
                self._said.pop(name, None)
            except LetheonError as error:
                self._failed(name)
                self._say(name, error)
            except Exception:  # noqa: BLE001
                self._failed(name)
                # A chore must not end the others; the stack in the log is what wakes a human.
                _log.exception("chore_failed", extra={"chore": name})

    def _say(self, chore: str, error: LetheonError) -> None:
        now_s = self._clock.monotonic()
        reason, due_s = self._said.get(chore, ("", now_s))
        if reason != error.reason or now_s >= due_s:
            self._said[chore] = error.reason, now_s + _SAY_EVERY_S
            _log.warning("chore_failed", extra={"chore": chore, "reason": error.reason})

    def _run(self) -> None:
        while not self._stopping:
            self.run_once()
            self._clock.wait(self._wake, self._every_s)
            self._wake.clear()
