"""A clock for one thread: a wait is over at once, and that much later."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class JumpingClock:
    def __init__(self, start: datetime = START) -> None:
        self.at = 0.0
        self.waits: list[float] = []
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        self.waits.append(seconds)
        self.at += seconds
        return False
