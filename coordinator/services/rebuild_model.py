"""Computes a version by replay, as it was or without some sites, and records who takes it."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from coordinator.domain.model import Export
from coordinator.ports import Blobs, Store
from coordinator.services import audit
from coordinator.services.export_model import check_recipient, recorded
from coordinator.services.live_model import LiveModel
from coordinator.services.rebuild_start import (
    Start,
    check_may_leave,
    find_start,
    load_start,
    rows_of,
    tracked_sites,
)
from coordinator.services.replay_start import add_contributions, payload_reader
from letheon.errors import (
    LedgerBroken,
    PayloadCorrupt,
    RebuildRunning,
    RequestAltered,
    UnknownModelVersion,
)
from letheon.federation.ledger import Entry, verify_chain
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import ReadPayload, ReplayState, apply
from letheon.names import export_name, model_name
from letheon.servicekit.clock import Clock


@dataclass(frozen=True)
class Rebuild:
    """What is asked for."""

    request_id: str
    version: int
    without: frozenset[str]  # site identifiers
    recipient: str
    purpose: str


@dataclass(frozen=True)
class RebuildProgress:
    """Rows replayed so far, of how many."""

    done: int
    total: int


@dataclass(frozen=True)
class Rebuilt:
    """The version, its export recorded."""

    weights: Vector  # [d]
    version: int
    epoch: int
    sha256: str
    replayed_from: int  # row
    start_held_site: bool
    export: Export


class RebuildModel:
    """The use case of RebuildModel. One at a time: it holds some three models in memory."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        live: LiveModel,
        clock: Clock,
        *,
        size: int,
        report_every: int = 200,
    ) -> None:
        self._store, self._blobs, self._live, self._clock = store, blobs, live, clock
        self._size, self._report_every = size, report_every
        self._running = threading.Lock()

    def __call__(self, asked: Rebuild) -> Iterator[RebuildProgress | Rebuilt]:
        """Progress, then the version; the next may begin when the iterator is closed.

        Raises MalformedRequest, UnknownModelVersion, UnknownSite, RequestAltered,
        ModelDestroyed, VersionCompacted, ExportSuspended, RebuildRunning, PayloadCorrupt or
        LedgerBroken.
        """
        self._check(asked)
        if not self._running.acquire(blocking=False):
            raise RebuildRunning("a version is being rebuilt already", retry_after_s=5.0)
        try:
            yield from self._rebuild(asked)
        finally:
            self._running.release()

    def _check(self, asked: Rebuild) -> None:
        check_recipient(asked.recipient)
        head = self._live.position.version
        if not 0 <= asked.version <= head:
            raise UnknownModelVersion(
                f"models/{asked.version} does not exist: the head is models/{head}",
                version=asked.version,
            )
        with self._store.read() as uow:
            for site in asked.without:
                uow.sites.get(site)
            check_may_leave(uow, asked.version, asked.without)

    def _rebuild(self, asked: Rebuild) -> Iterator[RebuildProgress | Rebuilt]:
        start = find_start(self._store, asked.version, asked.without)
        try:
            state = yield from self._replay(start, asked)
        except PayloadCorrupt:
            # An erasure or a compaction may have come between: then that is the answer.
            with self._store.read() as uow:
                check_may_leave(uow, asked.version, asked.without)
            find_start(self._store, asked.version, asked.without)
            raise
        state.contributions.clear()
        sha256 = digest(state.head)
        export = self._record(asked, sha256, state)
        yield Rebuilt(
            weights=state.head,
            version=asked.version,
            epoch=state.epoch,
            sha256=sha256,
            replayed_from=max(0, start.entry),
            start_held_site=start.held,
            export=export,
        )

    def _replay(
        self, start: Start, asked: Rebuild
    ) -> Generator[RebuildProgress, None, ReplayState]:
        store, version, without = self._store, asked.version, asked.without
        state = load_start(store, self._blobs, start, size=self._size, without=without)
        state.tracked = tracked_sites(store, start, version, without)
        add_contributions(store, self._blobs, state)
        read = _named(payload_reader(self._blobs))
        with store.read() as uow:
            last = None if start.checkpoint is None else uow.entries.get(start.entry)
        total = sum(1 for _ in rows_of(store, start, version))
        for done, row in enumerate(rows_of(store, start, version), start=1):
            last = verify_chain([row], after=last)
            apply(state, row, read, without=without)
            if done % self._report_every == 0:
                yield RebuildProgress(done, total)
        return state

    def _record(self, asked: Rebuild, sha256: str, state: ReplayState) -> Export:
        """The row that names the recipient; committed before a byte leaves."""
        without = sorted(asked.without)
        with self._store.write() as uow:
            check_may_leave(uow, asked.version, asked.without)
            file = uow.models.find(asked.version)
            if not without and file is not None and file.sha256 != sha256:
                raise LedgerBroken(
                    f"the replay of models/{asked.version} differs from what was written out",
                    entry=state.entry,
                )
            known = recorded(
                uow,
                asked.request_id,
                recipient=asked.recipient,
                purpose=asked.purpose,
                without=without,
            )
            if known is not None:
                if known.version != asked.version:
                    raise RequestAltered(
                        f"exports/{asked.request_id} is of models/{known.version}",
                        request_id=asked.request_id,
                    )
                return known
            made = Export(
                asked.request_id,
                asked.version,
                asked.recipient,
                asked.purpose,
                self._clock.now(),
                without,
            )
            uow.exports.add(made)
            audit.record(
                uow,
                made.exported_at,
                "model.rebuilt",
                model_name(made.version),
                export=export_name(made.request_id),
                recipient=made.recipient,
                without=without,
            )
            uow.commit()
        return made


def _named(read: ReadPayload) -> ReadPayload:
    """The reader, its error naming the row."""

    def read_named(row: Entry) -> Vector:
        try:
            return read(row)
        except PayloadCorrupt as error:
            raise PayloadCorrupt(
                f"the payload of row {row.entry}: {error.message}", entry=row.entry
            ) from error

    return read_named
