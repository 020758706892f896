"""The removal: in one transaction the subject leaves the head, and a new epoch begins."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from coordinator.domain.erasure import Erasure, Removal, check_open, with_removal
from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import BufferedDelta, Contribution
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext, job, offer_of, pin_reason
from coordinator.services.flush_buffer import coefficients, mark_flushed
from coordinator.services.keep_snapshots import keep_snapshots
from coordinator.services.live_model import Head
from coordinator.services.replay_start import BEFORE_FIRST, contribution_at
from coordinator.services.request_erasure import void_row
from letheon.errors import InternalFault
from letheon.federation.admission import check_subtractable
from letheon.federation.arithmetic import norm
from letheon.federation.ledger import Entry, EntryKind, merges
from letheon.federation.parameters import Vector, digest
from letheon.federation.replay import merge_delta
from letheon.federation.replay import remove_contribution as subtract_from
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Folded:
    """A contribution [d] folded through a row; None is zero."""

    total: Vector | None
    through: int
    norm: float  # L2
    sha256: str | None


@dataclass(frozen=True)
class _Draft:
    """What the removal will do."""

    own: list[BufferedDelta]  # of the subject: voided
    others: list[BufferedDelta]  # flushed
    pairs: list[tuple[int, float]]  # (buffered entry, coefficient) of the others
    payloads: dict[int, Vector]  # of the others, by buffered entry
    folded: _Folded
    subtracts: bool
    before: Vector  # [d]
    after: Vector  # [d]
    sha256_before: str
    sha256_after: str

    @property
    def contribution(self) -> Vector | None:
        """What is subtracted."""
        return self.folded.total if self.subtracts else None


def remove_contribution(erasure_id: str, token: int, context: ErasureContext) -> Removal:
    """What the removal did. Repeating it gives the recorded one.

    Raises UnknownErasure, ClaimLost, ErasureConcluded, ContributionNotSubtractable.
    """
    with context.store.read() as uow:
        erasure = job(uow, erasure_id, token)
    known: dict[int, Vector] = {}
    if erasure.removal is None:
        erasure, known = _remove(erasure, token, context)
    if erasure.removal is None:
        raise InternalFault(f"the removal of erasures/{erasure_id} was not recorded")
    reach("removal.committed")
    keep_snapshots(erasure, context, known)
    reach("removal.snapshots_kept")
    return erasure.removal


def _remove(
    erasure: Erasure, token: int, context: ErasureContext
) -> tuple[Erasure, dict[int, Vector]]:
    """The erasure after its removal, and the weights around it by version."""
    check_open(erasure)
    method = offer_of(erasure.method)
    subtracts = method.subtracts
    plugin = context.plan.strategy.plugin
    check_subtractable(erasure.site, method, strategy=plugin, linear=context.strategy.linear)
    # Folding may take long and is done while others train: a fenced site adds nothing more.
    folded = _fold(erasure.site, context)
    with context.live.exclusive() as head:
        # Whoever changes the ledger or the buffer holds the head: what is read here stays true.
        draft = _draft(erasure, folded, head, context, subtracts=subtracts)
        with context.store.write() as uow:
            erasure = job(uow, erasure.id, token)
            if erasure.removal is not None:
                return erasure, {}
            check_open(erasure)
            reach("removal.drafted")
            erasure, removal = _commit(erasure, draft, head, uow, context)
    _report(erasure, removal, context)
    return erasure, {removal.version_before: draft.before, removal.version_after: draft.after}


def _fold(site: str, context: ErasureContext) -> _Folded:
    with context.store.read() as uow:
        newest = uow.entries.newest()
    through = BEFORE_FIRST if newest is None else newest.entry
    total = contribution_at(context.store, context.blobs, site, through=through)
    if total is None:
        return _Folded(None, through, 0.0, None)
    return _Folded(total, through, norm(total), digest(total))


def _draft(
    erasure: Erasure, folded: _Folded, head: Head, context: ErasureContext, *, subtracts: bool
) -> _Draft:
    with context.store.read() as uow:
        waiting = uow.buffered.waiting()
        unfolded = uow.entries.terms(erasure.site, after=folded.through, limit=1)
        others = [delta for delta in waiting if delta.site != erasure.site]
        payloads = {d.entry: head.read_payload(uow.entries.get(d.entry)) for d in others}
    if unfolded:
        folded = _fold(erasure.site, context)
    pairs = coefficients(context.strategy, others)
    after = np.array(head.weights)
    for entry, coefficient in pairs:
        merge_delta(after, coefficient, payloads[entry])
    subtract_from(after, folded.total if subtracts else None)
    before = np.array(head.weights)
    with ThreadPoolExecutor(2) as pool:  # training waits meanwhile: both digests at once
        sha256_before, sha256_after = pool.map(digest, (before, after))
    return _Draft(
        own=[delta for delta in waiting if delta.site == erasure.site],
        others=others,
        pairs=pairs,
        payloads=payloads,
        folded=folded,
        subtracts=subtracts,
        before=before,
        after=after,
        sha256_before=sha256_before,
        sha256_after=sha256_after,
    )


def _commit(
    erasure: Erasure, draft: _Draft, head: Head, uow: UnitOfWork, context: ErasureContext
) -> tuple[Erasure, Removal]:
    now, before, site = context.clock.now(), head.position, erasure.site
    removed_entries = len(uow.entries.terms(site, after=_last_removal(uow, site)))
    rows = [void_row(uow, head, site, draft.own, now)] if draft.own else []
    row = _removal_row(rows[-1] if rows else head.newest, erasure, draft, now)
    uow.entries.add(row)
    mark_flushed(uow, draft.others, draft.pairs, row)
    removal = Removal(
        epoch=row.epoch,
        version_before=before.version,
        version_after=row.version,
        sha256_before=draft.sha256_before,
        sha256_after=draft.sha256_after,
        contribution_norm=draft.folded.norm,
        head_norm_before=norm(draft.before),
        removed_entries=removed_entries,
        voided_entries=len(uow.buffered.voided(site)),
        subtracted=draft.subtracts,
        entry=row.entry,
    )
    for version in (removal.version_before, removal.version_after):
        uow.models.pin(version, pin_reason(erasure.id))
    if draft.subtracts:
        uow.contributions.save(Contribution(site, row.entry, None, 0))
    erasure = with_removal(erasure, removal, now)
    uow.erasures.save(erasure)
    head.commit(uow, [*rows, row], draft.payloads, contribution=draft.contribution)
    return erasure, removal


def _removal_row(previous: Entry, erasure: Erasure, draft: _Draft, now: datetime) -> Entry:
    details = {
        "erasure": erasure.id,
        "subtracted": draft.subtracts,
        "contribution_sha256": draft.folded.sha256 if draft.subtracts else None,
        "flushed": merges(draft.pairs),
        "version_before": previous.version,
        "sha256_before": draft.sha256_before,
        "sha256_after": draft.sha256_after,
    }
    return follow(previous, EntryKind.REMOVAL, at=now, site=erasure.site, details=details)


def _last_removal(uow: UnitOfWork, site: str) -> int:
    """The row of the site's newest subtraction: an erasure that failed may have had one."""
    removals = [erasure.removal for erasure in uow.erasures.of_site(site)]
    rows = [removal.entry for removal in removals if removal is not None and removal.subtracted]
    return max(rows, default=BEFORE_FIRST)


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
