"""How many payloads may travel at once: memory and workers are bounded by it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from letheon.errors import MemoryShort, TooManyTransfers


class TransferSlots:
    """A fixed number of slots, and of each site; who finds none is told when to come back.

    Without `per_site` or `memory_bytes` there is no such limit. `memory_in_use` answers the bytes
    this process holds.
    """

    def __init__(
        self,
        slots: int,
        *,
        retry_after_s: float,
        per_site: int | None = None,
        memory_bytes: int | None = None,
        memory_in_use: Callable[[], int] = lambda: 0,
    ) -> None:
        self._slots, self._per_site = slots, per_site
        self._memory_bytes, self._memory_in_use = memory_bytes, memory_in_use
        self._retry_after_s = retry_after_s
        self._lock = threading.Lock()
        self._taken = 0
        self._taken_by: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Slots in use now."""
        return self._taken

    @property
    def most(self) -> int:
        """Slots there are."""
        return self._slots

    @contextmanager
    def take(self, site: str | None = None, size_bytes: int = 0) -> Iterator[None]:
        """Holds one slot. Raises TooManyTransfers or MemoryShort at once, nothing being done."""
        self._check_memory(size_bytes)
        with self._lock:
            self._check(site)
            self._taken += 1
            if site is not None:
                self._taken_by[site] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1
                if site is not None:
                    self._taken_by[site] -= 1
                    if not self._taken_by[site]:
                        del self._taken_by[site]

    def _check(self, site: str | None) -> None:
        if self._taken >= self._slots:
            raise TooManyTransfers(
                "all transfer slots are taken", retry_after_s=self._retry_after_s
            )
        if site is None or self._per_site is None or self._taken_by[site] < self._per_site:
            return
        raise TooManyTransfers(
            f"sites/{site} has {self._per_site} transfers under way already",
            retry_after_s=self._retry_after_s,
            site=site,
        )

    def _check_memory(self, size_bytes: int) -> None:
        if self._memory_bytes is None:
            return
        in_use = self._memory_in_use()
        if in_use + size_bytes > self._memory_bytes:
            raise MemoryShort(
                f"{in_use} bytes are in use; a payload of {size_bytes} would pass the limit of "
                f"{self._memory_bytes}",
                retry_after_s=self._retry_after_s,
            )
