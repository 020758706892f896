"""How many payloads may travel at once: memory and workers are bounded by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from letheon.errors import TooManyTransfers


class TransferSlots:
    """A fixed number of slots; a caller that finds none is told when to come back."""

    def __init__(self, slots: int, *, retry_after_s: float) -> None:
        self._free = threading.Semaphore(slots)
        self._retry_after_s = retry_after_s

    @contextmanager
    def take(self) -> Iterator[None]:
        """Holds one slot. Raises TooManyTransfers at once if there is none."""
        if not self._free.acquire(blocking=False):
            raise TooManyTransfers(
                "all transfer slots are taken", retry_after_s=self._retry_after_s
            )
        try:
            yield
        finally:
            self._free.release()
