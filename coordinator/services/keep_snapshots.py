"""Keeps the versions just before and after a removal as files, while its erasure needs them.

Training never waits for them: they are written before the head is held, or after the removal's
transaction if the head moved meanwhile. A crash loses nothing: repeating the call rebuilds them
from the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.domain.erasure import Erasure, Removal
from coordinator.domain.model import Checkpoint, ModelFile
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.replay_start import (
    add_contributions,
    entries_after,
    payload_reader,
    state_at,
)
from letheon.errors import LedgerBroken
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import ReplayState, apply, removed_sites

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class _Snapshot:
    version: int
    epoch: int
    sha256: str
    through: int  # the row after which the head was this
    is_after: bool


@dataclass(frozen=True)
class Known:
    """What whoever removed has at hand: weights [d] by version, and which of them are stored."""

    weights: Mapping[int, Vector] = field(default_factory=dict)
    stored: frozenset[str] = frozenset()  # digests in the area of models


def keep_snapshots(erasure: Erasure, context: ErasureContext, known: Known) -> None:
    """Writes the files that are missing, from `known`, else by replay.

    Nothing once the erasure was promoted: then what was before the removal is destroyed. Raises
    LedgerBroken if a replay gives other weights than were recorded, PayloadCorrupt.
    """
    if erasure.removal is None or erasure.promoted_at is not None or not erasure.is_open:
        return
    for snapshot in _snapshots(erasure, erasure.removal):
        with context.store.read() as uow:
            if not _is_missing(uow, snapshot.version):
                continue
        if snapshot.sha256 not in known.stored:
            weights = known.weights.get(snapshot.version)
            _put(snapshot, _rebuilt(snapshot, context) if weights is None else weights, context)
        _record(snapshot, context)


def _snapshots(erasure: Erasure, removal: Removal) -> list[_Snapshot]:
    after = _Snapshot(
        removal.version_after, removal.epoch, removal.sha256_after, removal.entry, True
    )
    if removal.version_before == removal.version_after:
        return [after]
    epoch = removal.epoch - 1
    if removal.exchanged and erasure.exchange is not None:
        epoch = erasure.exchange.epoch  # which a small patch does not end
    before = _Snapshot(
        removal.version_before, epoch, removal.sha256_before, removal.entry - 1, False
    )
    return [before, after]


def _is_missing(uow: UnitOfWork, version: int) -> bool:
    gone = any(d.first_version <= version <= d.last_version for d in uow.destroyed.versions())
    return not gone and uow.models.find(version) is None


def _put(snapshot: _Snapshot, weights: Vector, context: ErasureContext) -> None:
    if context.blobs.models.put(vector_bytes(weights)) != snapshot.sha256:
        raise LedgerBroken(
            f"models/{snapshot.version} cannot be rebuilt: the replay differs from what was "
            "recorded",
            entry=snapshot.through,
        )


def _record(snapshot: _Snapshot, context: ErasureContext) -> None:
    sha256, now = snapshot.sha256, context.clock.now()
    size_bytes = context.plan.parameters.size * _FLOAT32_BYTES
    file = ModelFile(snapshot.version, snapshot.epoch, sha256, size_bytes, now)
    if snapshot.is_after:
        # So that no recovery has to fold and subtract again.
        context.blobs.checkpoints.share(sha256, context.blobs.models)
    with context.store.write() as uow:
        if not _is_missing(uow, snapshot.version):
            return
        uow.models.add(file)
        if snapshot.is_after:
            uow.checkpoints.add(
                Checkpoint(snapshot.through, snapshot.version, snapshot.epoch, sha256, now)
            )
        uow.commit()


def _rebuilt(snapshot: _Snapshot, context: ErasureContext) -> Vector:
    with context.store.read() as uow:
        earlier = [c for c in uow.checkpoints.all() if c.entry <= snapshot.through]
    state = (
        state_at(context.store, context.blobs, earlier[0])
        if earlier
        else ReplayState.before_first(context.plan.parameters.size)
    )
    through = snapshot.through
    state.tracked = removed_sites(entries_after(context.store, state.entry, through=through))
    add_contributions(context.store, context.blobs, state)
    read = payload_reader(context.blobs)
    for row in entries_after(context.store, state.entry, through=through):
        apply(state, row, read)
    if digest(state.head) != snapshot.sha256:
        raise LedgerBroken(f"the replay up to row {through} differs", entry=through)
    return state.head
