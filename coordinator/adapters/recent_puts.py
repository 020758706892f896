"""Which blobs this process stored of late: no row may name them yet."""

from __future__ import annotations

from collections import OrderedDict

from coordinator.ports import ORPHAN_GRACE_S
from letheon.servicekit.clock import Clock


class RecentPuts:
    """Digests stored within ORPHAN_GRACE_S. The caller's lock makes two calls one step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stored_at: OrderedDict[str, float] = OrderedDict()  # monotonic seconds

    def note(self, sha256: str) -> None:
        """It was stored, or asked for and found, just now."""
        self._forget_old()
        self._stored_at[sha256] = self._clock.monotonic()
        self._stored_at.move_to_end(sha256)

    def __contains__(self, sha256: str) -> bool:
        self._forget_old()
        return sha256 in self._stored_at

    def _forget_old(self) -> None:
        due = self._clock.monotonic() - ORPHAN_GRACE_S
        while self._stored_at and next(iter(self._stored_at.values())) <= due:
            self._stored_at.popitem(last=False)
