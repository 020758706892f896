"""What the agent of an exchange downloads: the versions it trained from, and its contribution.

A base is rebuilt by replay when it is asked for and never written out. An agent asks in the order
of its deltas, so the replay goes on from where it stood: one pass over the ledger for all bases.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from coordinator.domain.erasure import Erasure, Exchange, check_open
from coordinator.ports import Blobs, Store
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.rebuild_start import find_start, load_start, rows_of, tracked_sites
from coordinator.services.replay_start import add_contributions, payload_reader
from letheon.errors import UnknownModelVersion
from letheon.federation.ledger import Entry
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import ReplayState, apply

_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ExchangeFile:
    """Float32 little-endian bytes and what they are."""

    content: memoryview
    version: int
    epoch: int
    sha256: str


@dataclass
class _Cursor:
    """A replay that stands at a version of an erasure's exchange."""

    erasure: str
    exchange: Exchange
    state: ReplayState
    rows: Iterator[Entry]


class ExchangeFiles:
    """One replay at a time: it holds one model, and contributions that a removal subtracts."""

    def __init__(self, store: Store, blobs: Blobs, *, size: int) -> None:
        self._store, self._blobs, self._size = store, blobs, size
        self._lock = threading.Lock()
        self._cursor: _Cursor | None = None

    def contribution(self, erasure_id: str, site: str | None) -> ExchangeFile:
        """What the site had added to the head when it was asked. Raises as `base`."""
        _, exchange = self._asked(erasure_id, site)
        content = memoryview(self._blobs.contributions.get(exchange.contribution_sha256))
        sha256 = exchange.contribution_sha256
        return ExchangeFile(content, exchange.version, exchange.epoch, sha256)

    def base(self, erasure_id: str, version: int, site: str | None) -> ExchangeFile:
        """A version from before the exchange.

        Raises UnknownErasure, ErasureConcluded; UnknownModelVersion for another reader than the
        site, or a version the exchange does not need; ModelDestroyed, VersionCompacted,
        PayloadCorrupt.
        """
        erasure, exchange = self._asked(erasure_id, site)
        if version > exchange.version:
            raise UnknownModelVersion(
                f"models/{version} is no base of erasures/{erasure_id}", version=version
            )
        with self._lock:
            weights, epoch = self._replayed(erasure, exchange, version)
        return ExchangeFile(vector_bytes(weights), version, epoch, digest(weights))

    def _asked(self, erasure_id: str, site: str | None) -> tuple[Erasure, Exchange]:
        with self._store.read() as uow:
            erasure = uow.erasures.get(erasure_id)
        check_open(erasure)
        if erasure.exchange is None or erasure.removal is not None or erasure.site != site:
            raise UnknownModelVersion(
                f"erasures/{erasure_id} asks nothing of this reader to recompute"
            )
        return erasure, erasure.exchange

    def _replayed(self, erasure: Erasure, exchange: Exchange, version: int) -> tuple[Vector, int]:
        cursor, self._cursor = self._cursor, None  # an error on the way leaves none behind
        known = cursor is not None and (cursor.erasure, cursor.exchange) == (erasure.id, exchange)
        if cursor is None or not known or cursor.state.version > version:
            cursor = self._begin(erasure, exchange, version)
        read = payload_reader(self._blobs)
        while cursor.state.version < version:
            apply(cursor.state, next(cursor.rows), read)
        self._cursor = cursor
        return np.array(cursor.state.head), cursor.state.epoch

    def _begin(self, erasure: Erasure, exchange: Exchange, version: int) -> _Cursor:
        start = find_start(self._store, version, _NOBODY)
        state = load_start(self._store, self._blobs, start, size=self._size, without=_NOBODY)
        state.tracked = tracked_sites(self._store, start, exchange.version, _NOBODY)
        add_contributions(self._store, self._blobs, state)
        rows = rows_of(self._store, start, exchange.version)
        return _Cursor(erasure.id, exchange, state, rows)
