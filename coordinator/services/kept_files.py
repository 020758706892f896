"""The files that rows name and that a replay does not read: they must be whole all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.ports import Blobs, BlobStore, Store
from coordinator.services.replayable import compacted_through
from letheon.errors import LedgerBroken, PayloadCorrupt
from letheon.federation.ledger import Entry, EntryKind


@dataclass(frozen=True)
class _Known:
    """What is no longer there by right, and what is there beside replayed payloads."""

    destroyed: frozenset[str]  # digests
    voided: frozenset[int]  # rows whose payload is never read
    waiting: frozenset[int]  # rows whose payload no row has merged yet
    anchors: frozenset[int]  # rows whose checkpoint is kept
    compacted_through: int


class KeptFiles:
    """Checks row by row, for a replay that begins after row `start`."""

    def __init__(self, store: Store, blobs: Blobs, start: int) -> None:
        self._store, self._blobs, self._start = store, blobs, start
        self._known = self._read()

    def check(self, row: Entry) -> None:
        """Raises LedgerBroken(entry=row) if a file is missing that should be there, or altered."""
        for area, sha256 in self._named(row):
            try:
                area.get(sha256)
            except PayloadCorrupt as error:
                # It may have been given up, by right, since this began.
                self._known = self._read()
                if (area, sha256) in self._named(row):
                    raise LedgerBroken(
                        f"row {row.entry}: {error.message}", entry=row.entry
                    ) from error

    def _named(self, row: Entry) -> list[tuple[BlobStore, str]]:
        gone = self._known.destroyed
        return [(area, sha256) for area, sha256 in self._all_named(row) if sha256 not in gone]

    def _all_named(self, row: Entry) -> Iterator[tuple[BlobStore, str]]:
        known = self._known
        if row.entry in known.anchors and row.kind is EntryKind.ANCHOR:
            kept = row.details.get("checkpoint_sha256")
            if kept:  # a forged anchor may lack it: the replay that begins there says so
                yield self._blobs.checkpoints, kept
            for sha256 in row.details.get("contributions", {}).values():
                yield self._blobs.contributions, sha256
        if row.payload_sha256 is None or row.entry in known.voided:
            return
        if known.compacted_through < row.entry <= self._start or row.entry in known.waiting:
            yield self._blobs.payloads, row.payload_sha256

    def _read(self) -> _Known:
        with self._store.read() as uow:
            erasures, sites = uow.erasures.all(), uow.sites.all()
            return _Known(
                destroyed=frozenset(
                    sha256 for e in erasures for sha256 in uow.destroyed.payloads(e.id)
                ),
                voided=frozenset(d.entry for s in sites for d in uow.buffered.voided(s.id)),
                waiting=frozenset(d.entry for d in uow.buffered.waiting()),
                anchors=frozenset(c.entry for c in uow.checkpoints.all() if c.is_anchor),
                compacted_through=compacted_through(uow),
            )
