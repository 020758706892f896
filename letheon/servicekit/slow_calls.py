"""Ends calls whose messages do not come, or are not taken: each holds a worker while it waits.

A caller may wait `patience_s`, and beside that as long as its bytes need on the slowest link that
is to be served. Whoever trickles a byte now and then runs out of time all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from letheon.servicekit.clock import Clock

# What is on its way while nothing has arrived yet: a message is that large at most.
_IN_FLIGHT_BYTES = 1 << 20
_FRAME_BYTES = 64
_LOOKS_WITHIN_PATIENCE = 8


class Cancellable(Protocol):
    """A call as the server has it."""

    def cancel(self) -> object:
        """Ends it; whoever waits for its messages gets an error."""
        ...


class Waiting:
    """How long one call was waited for; made by `SlowCalls.watch`."""

    def __init__(self, call: Cancellable, clock: Clock, patience_s: float, per_s: float) -> None:
        self._call, self._clock = call, clock
        self._patience_s, self._per_s = patience_s, per_s
        # Waited so far, and since when again, or None: one value, as another thread reads it.
        self._waited: tuple[float, float | None] = (0.0, None)
        self._bytes = 0
        self.was_cut = False

    @contextmanager
    def message(self, in_flight: int = _IN_FLIGHT_BYTES) -> Iterator[None]:
        """While a message is waited for; `in_flight` bytes may be on their way."""
        before, _ = self._waited
        began = self._clock.monotonic()
        self._bytes += in_flight
        self._waited = (before, began)
        try:
            yield
        finally:
            self._waited = (before + self._clock.monotonic() - began, None)
            self._bytes -= in_flight

    def moved(self, size_bytes: int) -> None:
        """So many bytes came, or went."""
        self._bytes += size_bytes

    def look(self) -> None:
        """Ends the call if it was waited for too long."""
        before, began = self._waited
        if began is None or self.was_cut:
            return
        waited_s = before + self._clock.monotonic() - began
        if waited_s > self._patience_s + self._bytes / self._per_s:
            self.was_cut = True
            self._call.cancel()


class SlowCalls:
    """Looks at all calls that wait, from a thread of its own that runs while there are any."""

    def __init__(self, clock: Clock, *, patience_s: float, bytes_per_s: float) -> None:
        self._clock, self._patience_s, self._per_s = clock, patience_s, bytes_per_s
        self._lock = threading.Lock()
        self._calls: set[Waiting] = set()
        self._never = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, call: Cancellable) -> Iterator[Waiting]:
        """Watches a call to its end."""
        waiting = Waiting(call, self._clock, self._patience_s, self._per_s)
        with self._lock:
            self._calls.add(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="slow-calls", daemon=True)
                self._thread.start()
        try:
            yield waiting
        finally:
            with self._lock:
                self._calls.discard(waiting)

    def _look(self) -> None:
        pause_s = min(1.0, self._patience_s / _LOOKS_WITHIN_PATIENCE)
        while True:
            # Real time, whatever the clock of a test says: it only decides how often is looked.
            self._never.wait(pause_s)
            with self._lock:
                calls = list(self._calls)
                if not calls:
                    self._thread = None
                    return
            for waiting in calls:
                waiting.look()


def size_of(message: object) -> int:
    """About how many bytes a message has on the wire."""
    data = getattr(message, "data", None)
    if isinstance(data, bytes):  # a chunk that was not parsed
        return len(data) + _FRAME_BYTES
    measure = getattr(message, "ByteSize", None)
    return int(measure()) + _FRAME_BYTES if callable(measure) else _FRAME_BYTES
