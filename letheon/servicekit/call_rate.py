"""How often somebody may call, token buckets, and how many calls may run; one of each a key."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass

from letheon.servicekit.clock import Clock

_MOST_KEYS = 10_000


@dataclass
class _Bucket:
    left: float
    seen_at: float


class CallRate:
    """At most `burst` calls at once and `per_s` a second after that, of each key. Thread-safe."""

    def __init__(self, per_s: float, burst: float, clock: Clock) -> None:
        if not per_s > 0 or burst < 1:
            raise ValueError("per_s must be above 0 and burst at least 1")
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str) -> float:
        """0.0 if the call may go on, else the seconds after which it is worth trying again."""
        with self._lock:
            now = self._clock.monotonic()
            bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
            bucket.left = min(self._burst, bucket.left + (now - bucket.seen_at) * self._per_s)
            bucket.seen_at = now
            self._buckets[key] = bucket
            # The one that was silent for longest is forgotten: its bucket is the fullest.
            while len(self._buckets) > _MOST_KEYS:
                self._buckets.popitem(last=False)
            if bucket.left < 1.0:
                return (1.0 - bucket.left) / self._per_s
            bucket.left -= 1.0
            return 0.0


class CallsAtOnce:
    """At most so many calls of one key under way. Thread-safe."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    def take(self, key: str) -> bool:
        """Whether one more may run; `give_back` is due once it has ended."""
        with self._lock:
            if self._running[key] >= self.most:
                return False
            self._running[key] += 1
            return True

    def give_back(self, key: str) -> None:
        """A call has ended."""
        with self._lock:
            self._running[key] -= 1
            if self._running[key] <= 0:
                del self._running[key]
