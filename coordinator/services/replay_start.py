"""Where a replay begins: a checkpoint with what waited and what was contributed by then."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from coordinator.domain.model import Checkpoint, Term
from coordinator.ports import Blobs, Store, UnitOfWork
from coordinator.services.read_ahead import read_ahead
from letheon.errors import LedgerBroken
from letheon.federation.encoding import decode
from letheon.federation.ledger import Entry
from letheon.federation.parameters import Vector
from letheon.federation.replay import ReadPayload, ReplayState, fold

_PAGE = 500
BEFORE_FIRST = -1


def entries_after(store: Store, entry: int, *, through: int | None = None) -> Iterator[Entry]:
    """The rows after `entry`, up to `through`, in order, read in pages."""
    first = entry + 1
    while True:
        with store.read() as uow:
            page = uow.entries.page(first, _PAGE)
        for row in page:
            if through is not None and row.entry > through:
                return
            yield row
        if len(page) < _PAGE:
            return
        first = page[-1].entry + 1


def payload_reader(blobs: Blobs) -> ReadPayload:
    """Reads and decodes the payload [d] of a row. Raises PayloadCorrupt."""

    def read(entry: Entry) -> Vector:
        if entry.payload_sha256 is None or entry.encoding is None:
            raise LedgerBroken(f"row {entry.entry} names no payload", entry=entry.entry)
        return decode(blobs.payloads.get(entry.payload_sha256), entry.encoding)

    return read


def state_at(store: Store, blobs: Blobs, checkpoint: Checkpoint) -> ReplayState:
    """The state after the checkpoint's row, without contributions. Raises PayloadCorrupt."""
    weights = np.array(decode(blobs.checkpoints.get(checkpoint.sha256), "float32"))
    with store.read() as uow:
        waiting = uow.buffered.waiting(checkpoint.entry)
        buffered = {delta.entry: uow.entries.get(delta.entry) for delta in waiting}
    return ReplayState(
        entry=checkpoint.entry,
        version=checkpoint.version,
        epoch=checkpoint.epoch,
        head=weights,
        buffered=buffered,
    )


def add_contributions(store: Store, blobs: Blobs, state: ReplayState) -> None:
    """Gives the state the contributions of the sites it tracks, as they were after its row."""
    for site in sorted(state.tracked or ()):
        total = contribution_at(store, blobs, site, through=state.entry)
        if total is not None:
            state.contributions[site] = total


def contribution_at(store: Store, blobs: Blobs, site: str, *, through: int) -> Vector | None:
    """C_site [d] after row `through`, writable; None if it added nothing by then.

    Begins at the stored vector if that is not newer, else at the vector the newest anchor kept,
    else at zero, or at the row that last subtracted it. Raises PayloadCorrupt if a payload it needs
    is gone.
    """
    total, after = _stored(store, blobs, site, through)
    with store.read() as uow:
        terms = [t for t in uow.entries.terms(site, after=after) if t.entry <= through]
    return fold_terms(blobs, total, terms)


def fold_terms(blobs: Blobs, total: Vector | None, terms: list[Term]) -> Vector | None:
    """The contribution with these terms added in order, in place."""

    def payload(term: Term) -> Vector:
        return decode(blobs.payloads.get(term.payload_sha256), term.encoding)

    for term, delta in read_ahead(terms, payload):
        total = fold(total, term.coefficient, delta)
    return total


def last_subtraction(uow: UnitOfWork, site: str, *, through: float = math.inf) -> int:
    """The row, at most `through`, that last took out all the site had added; else BEFORE_FIRST.

    A site that stays after it, readmitted, begins again at zero.
    """
    removals = [erasure.removal for erasure in uow.erasures.of_site(site)]
    rows = (r.entry for r in removals if r is not None and r.subtracted and r.entry <= through)
    return max(rows, default=BEFORE_FIRST)


def _stored(store: Store, blobs: Blobs, site: str, through: int) -> tuple[Vector | None, int]:
    with store.read() as uow:
        row = uow.contributions.find(site)
        anchors = [c for c in uow.checkpoints.all() if c.is_anchor and c.entry <= through]
        anchor = uow.entries.get(anchors[0].entry) if anchors else None
        subtracted = last_subtraction(uow, site, through=through)
    if row is not None and subtracted <= row.folded_through <= through:
        return _vector(blobs, row.sha256), row.folded_through
    if anchor is not None and anchor.entry >= subtracted:
        kept = anchor.details.get("contributions", {}).get(site)
        return _vector(blobs, kept), anchor.entry
    return None, subtracted


def _vector(blobs: Blobs, sha256: str | None) -> Vector | None:
    if sha256 is None:
        return None
    return np.array(decode(blobs.contributions.get(sha256), "float32"))
