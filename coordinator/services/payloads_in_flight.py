"""Payloads that are durable under their digest while their row is still to be written.

An upload is published before the head is held, so that nobody waits for a disk or an object
store; between that moment and the commit no row names the payload. This register keeps whoever
removes orphans away from it, and takes a refused payload back at once: what a fenced site sent
must not lie about until a sweep.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.ports import BlobStore, Staging, Store
from letheon.errors import LetheonError
from letheon.servicekit.faults import reach


class PayloadsInFlight:
    """Counts publications by digest: two uploads may carry the same bytes."""

    def __init__(
        self, store: Store, payloads: BlobStore, *, refusals: tuple[type[LetheonError], ...]
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._refusals = refusals  # after these no row names the payload
        self._lock = threading.Lock()
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def published(self, staging: Staging, sha256: str) -> Iterator[None]:
        """Publishes the staged bytes; inside, their row is written.

        After a refusal they are removed again. After any other error the row may have been
        committed all the same, so they stay until a sweep finds that it was not.
        """
        with self._lock:
            self._in_flight[sha256] += 1
        try:
            staging.publish()
            reach("accept.published")
            yield
        except self._refusals:
            with self._lock:
                self._remove_if_last(sha256)
            raise
        finally:
            with self._lock:
                self._in_flight[sha256] -= 1
                if not self._in_flight[sha256]:
                    del self._in_flight[sha256]

    def digests(self) -> frozenset[str]:
        """Payloads whose row may be on its way."""
        with self._lock:
            return frozenset(self._in_flight)

    def _remove_if_last(self, sha256: str) -> None:
        if self._in_flight[sha256] == 1 and not self._is_named(sha256):
            self._payloads.destroy(sha256)

    def _is_named(self, sha256: str) -> bool:
        with self._store.read() as uow:
            return (
                uow.entries.names_payload(sha256)
                or uow.receipts.stores(sha256)
                or uow.quarantined.keeps(sha256)
            )
