"""The removal: in one transaction the subject leaves the head, and a new epoch begins."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from coordinator.domain.erasure import Erasure, Removal, check_open, with_removal
from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import BufferedDelta, Checkpoint, Contribution, ModelFile
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext, job, offer_of, pin_reason
from coordinator.services.flush_buffer import coefficients, mark_flushed
from coordinator.services.keep_derived import vector_bytes
from coordinator.services.live_model import Head
from coordinator.services.replay_start import BEFORE_FIRST, contribution_at
from coordinator.services.request_erasure import void_row
from letheon.errors import ContributionNotSubtractable
from letheon.federation.arithmetic import norm
from letheon.federation.ledger import EntryKind, merges
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import merge_delta
from letheon.federation.replay import remove_contribution as subtract_from

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Folded:
    """A contribution [d] folded through a row; None is zero."""

    total: Vector | None
    through: int


@dataclass(frozen=True)
class _Draft:
    """What the removal will do: computed, and its files durable, before the transaction."""

    own: list[BufferedDelta]  # of the subject: voided
    others: list[BufferedDelta]  # flushed
    pairs: list[tuple[int, float]]  # (buffered entry, coefficient) of the others
    payloads: dict[int, Vector]  # of the others, by buffered entry
    contribution: Vector | None  # to be subtracted
    contribution_norm: float
    head_norm: float
    sha256_before: str
    sha256_after: str
    checkpoint_sha256: str
    size_bytes: int


def remove_contribution(erasure_id: str, token: int, context: ErasureContext) -> Removal:
    """What the removal did. Repeating it gives the recorded one.

    Raises UnknownErasure, ClaimLost, ErasureConcluded, ContributionNotSubtractable.
    """
    with context.store.read() as uow:
        erasure = job(uow, erasure_id, token)
    if erasure.removal is not None:
        return erasure.removal
    check_open(erasure)
    subtracts = offer_of(erasure.method).subtracts
    _check_strategy(erasure, context, subtracts=subtracts)
    # Folding may take long and is done while others train: a fenced site adds nothing more.
    folded = _fold(erasure.site, context)
    with context.live.exclusive() as head:
        # Whoever changes the ledger or the buffer holds the head: what is read here stays true.
        draft = _draft(erasure, folded, head, context, subtracts=subtracts)
        with context.store.write() as uow:
            erasure = job(uow, erasure_id, token)
            if erasure.removal is not None:
                return erasure.removal
            check_open(erasure)
            removal = _commit(erasure, draft, head, uow, context, subtracts=subtracts)
    _report(erasure, removal, context)
    return removal


def _check_strategy(erasure: Erasure, context: ErasureContext, *, subtracts: bool) -> None:
    if subtracts and not context.strategy.linear:
        plugin = context.plan.strategy.plugin
        raise ContributionNotSubtractable(
            f"strategy {plugin} is not linear: what sites/{erasure.site} added to the head is no "
            "sum that could be subtracted",
            strategy=plugin,
        )


def _fold(site: str, context: ErasureContext) -> _Folded:
    with context.store.read() as uow:
        newest = uow.entries.newest()
    through = BEFORE_FIRST if newest is None else newest.entry
    return _Folded(contribution_at(context.store, context.blobs, site, through=through), through)


def _draft(
    erasure: Erasure, folded: _Folded, head: Head, context: ErasureContext, *, subtracts: bool
) -> _Draft:
    with context.store.read() as uow:
        waiting = uow.buffered.waiting()
        if uow.entries.terms(erasure.site, after=folded.through, limit=1):
            folded = _fold(erasure.site, context)
        others = [delta for delta in waiting if delta.site != erasure.site]
        payloads = {d.entry: head.read_payload(uow.entries.get(d.entry)) for d in others}
    pairs = coefficients(context.strategy, others)
    contribution = folded.total if subtracts else None
    after = np.array(head.weights)
    for entry, coefficient in pairs:
        merge_delta(after, coefficient, payloads[entry])
    subtract_from(after, contribution)
    before_bytes, after_bytes = vector_bytes(head.weights), vector_bytes(after)
    return _Draft(
        own=[delta for delta in waiting if delta.site == erasure.site],
        others=others,
        pairs=pairs,
        payloads=payloads,
        contribution=contribution,
        contribution_norm=0.0 if folded.total is None else norm(folded.total),
        head_norm=norm(head.weights),
        sha256_before=context.blobs.models.put(before_bytes),
        sha256_after=context.blobs.models.put(after_bytes),
        checkpoint_sha256=context.blobs.checkpoints.put(after_bytes),
        size_bytes=len(after_bytes),
    )


def _commit(
    erasure: Erasure,
    draft: _Draft,
    head: Head,
    uow: UnitOfWork,
    context: ErasureContext,
    *,
    subtracts: bool,
) -> Removal:
    now = context.clock.now()
    before = head.position
    site = erasure.site
    removed_entries = len(uow.entries.terms(site, after=_last_removal(uow, site)))
    rows = [void_row(uow, head, site, draft.own, now)] if draft.own else []
    kept = None if draft.contribution is None else digest(draft.contribution)
    row = follow(
        rows[-1] if rows else head.newest,
        EntryKind.REMOVAL,
        at=now,
        site=site,
        details={
            "erasure": erasure.id,
            "subtracted": subtracts,
            "contribution_sha256": kept,
            "flushed": merges(draft.pairs),
            "version_before": before.version,
            "sha256_before": draft.sha256_before,
            "sha256_after": draft.sha256_after,
        },
    )
    uow.entries.add(row)
    mark_flushed(uow, draft.others, draft.pairs, row)
    removal = Removal(
        epoch=row.epoch,
        version_before=before.version,
        version_after=row.version,
        sha256_before=draft.sha256_before,
        sha256_after=draft.sha256_after,
        contribution_norm=draft.contribution_norm,
        head_norm_before=draft.head_norm,
        removed_entries=removed_entries,
        voided_entries=len(uow.buffered.voided(site)),
        subtracted=subtracts,
        entry=row.entry,
    )
    _keep_files(uow, erasure, removal, before.epoch, draft, context)
    if subtracts:
        uow.contributions.save(Contribution(site, row.entry, None, 0))
    uow.erasures.save(with_removal(erasure, removal, now))
    head.commit(uow, [*rows, row], draft.payloads, contribution=draft.contribution)
    return removal


def _last_removal(uow: UnitOfWork, site: str) -> int:
    """The row of the site's newest removal: an erasure that failed may have had one."""
    rows = [e.removal.entry for e in uow.erasures.of_site(site) if e.removal is not None]
    return max(rows, default=BEFORE_FIRST)


def _keep_files(
    uow: UnitOfWork,
    erasure: Erasure,
    removal: Removal,
    epoch_before: int,
    draft: _Draft,
    context: ErasureContext,
) -> None:
    """The snapshot of the method, and the model that the positive control needs."""
    now, size = context.clock.now(), draft.size_bytes
    before, after = removal.version_before, removal.version_after
    if uow.models.find(before) is None:
        uow.models.add(ModelFile(before, epoch_before, removal.sha256_before, size, now))
    uow.models.add(ModelFile(after, removal.epoch, removal.sha256_after, size, now))
    for version in (before, after):
        uow.models.pin(version, pin_reason(erasure.id))
    # So that no recovery has to subtract again.
    uow.checkpoints.add(
        Checkpoint(removal.entry, after, removal.epoch, draft.checkpoint_sha256, now)
    )


def _report(erasure: Erasure, removal: Removal, context: ErasureContext) -> None:
    now = context.clock.now()
    context.observe_stage("remove", (now - (erasure.claimed_at or now)).total_seconds())
    _log.info(
        "contribution_removed",
        extra={
            "erasure": erasure.id,
            "epoch": removal.epoch,
            "version": removal.version_after,
            "removed_entries": removal.removed_entries,
            "contribution_norm": removal.contribution_norm,
        },
    )
