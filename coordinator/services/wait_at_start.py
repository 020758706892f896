"""What a start waits for, instead of ending and being started again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from letheon.errors import DatabaseBusy, StorageUnavailable
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

LOOK_EVERY_S = 2.0
SAY_EVERY_S = 30.0


class Say:
    """A warning at the first call, then once an interval."""

    def __init__(self, clock: Clock, event: str) -> None:
        self._clock, self._event = clock, event
        self._next_s = clock.monotonic()

    def __call__(self, why: str) -> None:
        """Says it if it is time."""
        if self._clock.monotonic() >= self._next_s:
            self._next_s = self._clock.monotonic() + SAY_EVERY_S
            _log.warning(self._event, extra={"why": why})


def wait_for_database(open_store: Callable[[], _T], clock: Clock, ending: threading.Event) -> _T:
    """What `open_store` answers, as soon as the database does.

    Raises StorageUnavailable or DatabaseBusy once `ending` is set, and everything else at once.
    """
    say = Say(clock, "waiting_for_database")
    while True:
        try:
            return open_store()
        except (StorageUnavailable, DatabaseBusy) as error:
            say(error.message)
            if clock.wait(ending, LOOK_EVERY_S):
                raise


class Stream(Protocol):
    """What is needed of `letheon.servicekit.erasure_queue.ErasureQueue`."""

    def depth(self) -> int:
        """Raises StorageUnavailable."""
        ...


class AwaitStream:
    """Reports once that the stream answered, or that it was waited for long enough.

    Redis carries wake-ups: a coordinator that refused traffic without it would make of a delay of
    erasures an outage of training. At the start it is waited for, so that a wrong address shows.
    """

    def __init__(
        self, stream: Stream, clock: Clock, *, patience_s: float, done: Callable[[], None]
    ) -> None:
        self._stream, self._clock = stream, clock
        self._patience_s, self._done = patience_s, done
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="await-stream", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends without a report."""
        self._stopping.set()

    def _run(self) -> None:
        say = Say(self._clock, "waiting_for_redis")
        end_s = self._clock.monotonic() + self._patience_s
        while not self._stopping.is_set():
            try:
                self._stream.depth()
            except StorageUnavailable as error:
                say(error.message)
                if self._clock.monotonic() >= end_s:
                    _log.error("redis_not_waited_for", extra={"seconds": self._patience_s})
                    break
                self._clock.wait(self._stopping, LOOK_EVERY_S)
            else:
                break
        if not self._stopping.is_set():
            self._done()
