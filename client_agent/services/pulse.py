"""Signs of life while a task runs, and the news they bring back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from client_agent.ports import Coordinator
from letheon.errors import LetheonError
from letheon.servicekit.clock import Clock

log = logging.getLogger(__name__)


class Heartbeat:
    """A context: beats in its own thread from entry to exit.

    `on_abandon` is called at every beat that says the task is of no use, because a command that
    has just begun may have missed the first.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        task: str,
        *,
        clock: Clock,
        interval_s: float,
        on_abandon: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator
        self._task = task
        self._clock = clock
        self._interval_s = interval_s
        self._on_abandon = on_abandon
        self._over = threading.Event()
        # Held while a task is abandoned, so that the news of one never hits the next.
        self._ending = threading.Lock()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def is_abandoned(self) -> bool:
        """Whether the coordinator said that the task is of no use any more."""
        return self._abandoned.is_set()

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._ending:
            self._over.set()
        # Not joined: a beat may hang on a dead link for its whole deadline, and it does no harm.

    def _beat(self) -> None:
        while not self._clock.wait(self._over, self._interval_s):
            try:
                pulse = self._coordinator.heartbeat(self._task)
            except LetheonError as error:
                # The task goes on: news of a new epoch also comes with the upload.
                log.debug("heartbeat_failed", extra={"reason": error.reason})
                continue
            with self._ending:
                if pulse.abandon and not self._over.is_set():
                    self._abandoned.set()
                    self._on_abandon()
