"""A limit on bytes a second."""

from __future__ import annotations

import threading

from letheon.servicekit.clock import Clock


class RateLimit:
    """A token bucket: in any t seconds at most `bytes_per_s * (t + burst_s)` bytes pass, and the
    one piece that was waited for. May be shared by threads.
    """

    def __init__(self, bytes_per_s: float, clock: Clock, *, burst_s: float = 0.25) -> None:
        if not bytes_per_s > 0 or burst_s < 0:
            raise ValueError("bytes_per_s must be above 0 and burst_s not below")
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._burst = bytes_per_s * burst_s
        self._lock = threading.Lock()  # of the two below
        self._left = self._burst  # below 0: what was let through ahead of its time
        self._seen_at = clock.monotonic()

    def take(self, size_bytes: int, stopping: threading.Event) -> None:
        """Waits until that many bytes may pass, or the event is set."""
        with self._lock:
            now = self._clock.monotonic()
            earned = (now - self._seen_at) * self.bytes_per_s
            self._left = min(self._burst, self._left + earned) - size_bytes
            self._seen_at = now
            wait_s = max(0.0, -self._left / self.bytes_per_s)
        if wait_s > 0.0:
            self._clock.wait(stopping, wait_s)
