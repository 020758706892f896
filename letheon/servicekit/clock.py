"""Time comes in through the door: a `Clock` is an argument of whatever waits or stamps."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from letheon.servicekit import faults


class Clock(Protocol):
    """What a process may know about time."""

    def now(self) -> datetime:
        """The date and time, timezone UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits until the event is set (True) or the seconds are over (False)."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The date and time, timezone UTC."""
        now = datetime.now(UTC)
        return now if faults.skewed is None else faults.skewed(now)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits until the event is set (True) or the seconds are over (False)."""
        return event.wait(max(0.0, seconds))


class FakeClock:
    """A clock that moves only when told to.

    A test starts what it tests, calls `await_waiters(1)` to know that it waits, and then
    `advance(seconds)`.
    """

    # The event belongs to somebody else and does not notify our condition when it is set.
    _LOOK_AGAIN_S = 0.005

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._waiting = 0
        self._changed = threading.Condition()

    def now(self) -> datetime:
        """The start plus what was advanced."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        with self._changed:
            return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Moves time on and wakes those whose wait is over. Raises ValueError if negative."""
        if seconds < 0:
            raise ValueError("time does not go back")
        with self._changed:
            self._elapsed_s += seconds
            self._changed.notify_all()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits until the event is set (True) or `advance` has passed the seconds (False)."""
        with self._changed:
            end = self._elapsed_s + seconds
            self._waiting += 1
            self._changed.notify_all()
            try:
                while not event.is_set():
                    if self._elapsed_s >= end:
                        return False
                    self._changed.wait(self._LOOK_AGAIN_S)
                return True
            finally:
                self._waiting -= 1
                self._changed.notify_all()

    def await_waiters(self, count: int, timeout_s: float = 10.0) -> None:
        """Blocks, in real time, until `count` threads wait. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting >= count, timeout_s):
                raise TimeoutError(f"{self._waiting} of {count} threads wait")
