"""Proves, before anything is destroyed, that the ledger gives the head and the removal is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from coordinator.domain.erasure import Erasure
from coordinator.domain.model import Checkpoint
from coordinator.ports import Blobs, Store, UnitOfWork
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.live_model import Head, LiveModel
from coordinator.services.replay_ahead import replay_ahead
from coordinator.services.replay_start import (
    BEFORE_FIRST,
    add_contributions,
    contribution_at,
    entries_after,
    payload_reader,
    state_at,
)
from coordinator.services.replayable import compacted_through
from letheon.errors import LedgerBroken
from letheon.federation.arithmetic import relative_error
from letheon.federation.encoding import decode
from letheon.federation.ledger import Entry, EntryKind, verify_chain
from letheon.federation.parameters import Vector, digest
from letheon.federation.plan import Plan
from letheon.federation.replay import ReplayState, removed_sites
from letheon.federation.replay import remove_contribution as subtract_from

REMOVAL_BOUND = 1e-5  # relative L2 error of a removal against the replay without the subject


class Surroundings(Protocol):
    """Where a proof is made."""

    @property
    def store(self) -> Store:
        """The ledger."""
        ...

    @property
    def blobs(self) -> Blobs:
        """The payloads."""
        ...

    @property
    def live(self) -> LiveModel:
        """The head."""
        ...

    @property
    def plan(self) -> Plan:
        """The layout."""
        ...


@dataclass
class Survey:
    """Whose payloads the rows name; without an erasure, only how many rows there are."""

    erasure: Erasure | None
    rows: int = 0
    own: set[str] = field(default_factory=set)  # of the subject, and patches of its erasure
    foreign: set[str] = field(default_factory=set)

    def see(self, row: Entry) -> None:
        """Takes one row in."""
        self.rows += 1
        if self.erasure is None or row.payload_sha256 is None:
            return
        # A patch is made of the subject's answer, so it goes with the subject.
        patch = row.kind is EntryKind.PATCH and row.details.get("erasure") == self.erasure.id
        mine = patch or (row.site == self.erasure.site and row.entry <= self._last_entry())
        (self.own if mine else self.foreign).add(row.payload_sha256)

    def _last_entry(self) -> float:
        """The last row whose payload may hold the subject, of a site that may stay."""
        erasure = self.erasure
        if erasure is None or erasure.names_site or erasure.removal is None:
            return math.inf
        if erasure.removal.exchanged and erasure.exchange is not None:
            return erasure.exchange.through_entry
        return erasure.removal.entry


@dataclass
class Proof:
    """A replay that follows the head; `state` is at the last row proven."""

    state: ReplayState
    last: Entry
    survey: Survey
    replayed_from: int  # row of the anchor, or the first


@dataclass(frozen=True)
class RemovalError:
    """How far the removal is from the replay without the subject."""

    relative: float
    replayed_from: int  # row
    start_held_subject: bool  # then its contribution up to that row was subtracted first


def _no_pause() -> None:
    """For a proof that nobody breaks off."""


def prove_ledger(
    erasure: Erasure | None, context: Surroundings, *, pause: Callable[[], None] = _no_pause
) -> Proof:
    """Checks the chain from the first row and replays from the newest anchor to the head.

    `pause` is called before each row; what it raises breaks the proof off.
    Raises LedgerBroken or PayloadCorrupt.
    """
    position = context.live.position
    survey = Survey(erasure)
    last: Entry | None = None
    for row in entries_after(context.store, BEFORE_FIRST, through=position.entry):
        pause()
        last = verify_chain([row], after=last)
        survey.see(row)
    verify_chain([], after=last, tip=position.ledger_hash)
    if last is None:
        raise LedgerBroken("the ledger is empty", entry=0)
    with context.store.read() as uow:
        anchors = _anchors(uow, position.entry)
    state = _start(context, anchors[0] if anchors else None)
    started = max(state.entry, 0)
    _track(context, state, position.entry, without=frozenset())
    rows = entries_after(context.store, state.entry, through=position.entry)
    for _ in replay_ahead(state, rows, payload_reader(context.blobs)):
        pause()
    return Proof(state, last, survey, started)


def catch_up(proof: Proof, head: Head, context: Surroundings) -> str:
    """Replays what came since and compares, bit for bit; answers the digest of both.

    Called with the head held, no removal having happened since `prove_ledger`.
    Raises LedgerBroken or PayloadCorrupt.
    """
    follow_head(proof, context, through=head.newest.entry)
    replayed, live = digest(proof.state.head), digest(head.weights)
    if replayed != live or proof.state.version != head.newest.version:
        raise _differs(proof)
    return live


def follow_head(proof: Proof, context: Surroundings, *, through: int) -> None:
    """Replays the rows that came since, up to `through`, none of them a removal.

    Raises LedgerBroken or PayloadCorrupt.
    """
    read = payload_reader(context.blobs)
    rows = entries_after(context.store, proof.state.entry, through=through)
    for row in replay_ahead(proof.state, rows, read):
        proof.last = verify_chain([row], after=proof.last) or row
        proof.survey.see(row)


def check_same_bits(proof: Proof, weights: Vector) -> None:
    """Raises LedgerBroken unless the replay gave these weights [d], bit for bit."""
    if not np.array_equal(proof.state.head.view(np.uint32), weights.view(np.uint32)):
        raise _differs(proof)


def _differs(proof: Proof) -> LedgerBroken:
    return LedgerBroken(
        f"the replay up to row {proof.state.entry} differs from the head: nothing is destroyed",
        entry=proof.state.entry,
    )


def measure_removal(erasure: Erasure, context: ErasureContext) -> RemovalError | None:
    """The model after the removal against the replay that never saw the subject.

    None for a removal that did not subtract, or if another erasure destroyed what the replay
    needs. Raises LedgerBroken if the error is above REMOVAL_BOUND, PayloadCorrupt.
    """
    removal = erasure.removal
    if removal is None or not removal.subtracted:
        return None
    without = frozenset({erasure.site})
    found = _counterfactual_start(erasure, context)
    if found is None:
        return None
    state, held = found
    started = max(state.entry, 0)
    _track(context, state, removal.entry, without=without)
    rows = entries_after(context.store, state.entry, through=removal.entry)
    for _ in replay_ahead(state, rows, payload_reader(context.blobs), without=without):
        pass
    after = decode(context.blobs.models.get(removal.sha256_after), "float32")
    error = relative_error(after, state.head)
    if error > REMOVAL_BOUND:
        raise LedgerBroken(
            f"the model after the removal differs from the replay without the subject by "
            f"{error:.3g} (relative L2); at most {REMOVAL_BOUND:g} is rounding",
            entry=removal.entry,
        )
    return RemovalError(error, started, held)


def _anchors(uow: UnitOfWork, through: int) -> list[Checkpoint]:
    """Newest first."""
    return [c for c in uow.checkpoints.all() if c.is_anchor and c.entry <= through]


def _start(context: Surroundings, anchor: Checkpoint | None) -> ReplayState:
    if anchor is None:
        return ReplayState.before_first(context.plan.parameters.size)
    with context.store.read() as uow:
        row = uow.entries.get(anchor.entry)
    if row.details.get("checkpoint_sha256") != anchor.sha256:
        raise LedgerBroken("the anchor names another checkpoint", entry=anchor.entry)
    return state_at(context.store, context.blobs, anchor)


def _track(
    context: Surroundings, state: ReplayState, through: int, *, without: frozenset[str]
) -> None:
    """Gives the state the contributions that rows up to `through` subtract."""
    rows = entries_after(context.store, state.entry, through=through)
    state.tracked = removed_sites(rows) - without
    add_contributions(context.store, context.blobs, state)


def _counterfactual_start(
    erasure: Erasure, context: ErasureContext
) -> tuple[ReplayState, bool] | None:
    """A state from which a replay without the subject can begin, and whether it held it.

    The newest anchor from before the subject's first contribution, else the first row, else the
    oldest anchor that can be replayed from.
    """
    if erasure.removal is None:
        return None
    with context.store.read() as uow:
        first = uow.sites.get(erasure.site).first_version
        anchors = _anchors(uow, erasure.removal.entry)
    clean = [a for a in anchors if first is None or a.version < first]
    holding = [a for a in reversed(anchors) if a not in clean]
    for anchor in (*clean, None, *holding):
        start = BEFORE_FIRST if anchor is None else anchor.entry
        if not _all_there(erasure, start, erasure.removal.entry, context):
            continue
        state = _start(context, anchor)
        held = anchor in holding
        if held:
            subtract_from(
                state.head,
                contribution_at(context.store, context.blobs, erasure.site, through=start),
            )
        return state, held
    return None


def _all_there(erasure: Erasure, start: int, through: int, context: ErasureContext) -> bool:
    """Whether no payload that the replay would read was destroyed or given up."""
    with context.store.read() as uow:
        if start < compacted_through(uow):
            return False
        # A flush after the start may merge what waited at it.
        waited = [d for d in uow.buffered.waiting(start) if d.voided_by is None]
        due = {d.payload_sha256 for d in waited if d.site != erasure.site}
    for row in entries_after(context.store, start, through=through):
        if row.payload_sha256 is not None and row.site != erasure.site:
            due.add(row.payload_sha256)
    with context.store.read() as uow:
        return all(uow.destroyed.destroyer_of(sha256) is None for sha256 in due)
