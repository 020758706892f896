"""The removal: in one transaction the subject leaves the head, and a new epoch begins.

Records leave by an exchange (`add_exchange`); where that cannot be, by the readmission: their
site's whole contribution is subtracted, and the site, which stays active, begins again at zero.
"""

from __future__ import annotations

import logging
from datetime import datetime

from coordinator.domain.erasure import Erasure, Removal, check_open, with_removal
from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import Contribution
from coordinator.domain.site import check_not_fenced
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from coordinator.services.draft_removal import (
    Draft,
    Folded,
    discard,
    draft_ahead,
    draft_held,
    fold_whole,
)
from coordinator.services.erasure_context import ErasureContext, job, offer_of, pin_reason
from coordinator.services.flush_buffer import mark_flushed
from coordinator.services.keep_snapshots import Known, keep_snapshots
from coordinator.services.live_model import Head
from coordinator.services.replay_start import last_subtraction
from coordinator.services.request_erasure import void_row
from letheon.errors import InternalFault
from letheon.federation.admission import check_subtractable
from letheon.federation.ledger import Entry, EntryKind, merges
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


def remove_contribution(erasure_id: str, token: int, context: ErasureContext) -> Removal:
    """What the removal did. Repeating it gives the recorded one.

    Raises UnknownErasure, ClaimLost, ErasureConcluded, ContributionNotSubtractable; of records
    SiteFenced once their whole site is to go.
    """
    with context.store.read() as uow:
        erasure = job(uow, erasure_id, token)
    known = Known()
    if erasure.removal is None:
        erasure, known = _remove(erasure, token, context)
    if erasure.removal is None:
        raise InternalFault(f"the removal of erasures/{erasure_id} was not recorded")
    reach("removal.committed")
    keep_snapshots(erasure, context, known)
    reach("removal.snapshots_kept")
    return erasure.removal


def _remove(erasure: Erasure, token: int, context: ErasureContext) -> tuple[Erasure, Known]:
    """The erasure after its removal, and the weights around it."""
    check_open(erasure)
    method = offer_of(erasure.method)
    subtracts = method.subtracts or not erasure.names_site
    plugin = context.plan.strategy.plugin
    check_subtractable(erasure.site, method, strategy=plugin, linear=context.strategy.linear)
    # Done while others train: a fenced site adds nothing more, and most often the head stays too.
    folded = fold_whole(erasure.site, context)
    ahead = draft_ahead(erasure.site, folded, context, subtracts=subtracts) if subtracts else None
    removed = erasure
    try:
        removed, known = _remove_held(erasure, token, context, folded, ahead, subtracts=subtracts)
    finally:
        removal = removed.removal
        if ahead is not None and (removal is None or removal.sha256_after != ahead.sha256_after):
            discard(ahead, context)
    return removed, known


def _remove_held(
    erasure: Erasure,
    token: int,
    context: ErasureContext,
    folded: Folded,
    ahead: Draft | None,
    *,
    subtracts: bool,
) -> tuple[Erasure, Known]:
    site = erasure.site
    with context.live.exclusive() as head:
        # Whoever changes the ledger or the buffer holds the head: what is read here stays true.
        draft = ahead
        if draft is None or draft.position != head.position:
            draft = draft_held(site, folded, head, context, subtracts=subtracts)
        with context.store.write() as uow:
            erasure = job(uow, erasure.id, token)
            if erasure.removal is not None:
                return erasure, Known()
            check_open(erasure)
            if not erasure.names_site:
                check_not_fenced(uow.sites.get(erasure.site))
                shared = _shared(uow, erasure)
                if shared is not None:
                    return _save_shared(uow, erasure, shared, context), Known()
            reach("removal.drafted")
            erasure, removal = _commit(erasure, draft, head, uow, context)
    _report(erasure, removal, context)
    weights = {removal.version_after: draft.after}
    if draft.before is not None:
        weights[removal.version_before] = draft.before
    return erasure, Known(weights, draft.stored)


def _commit(
    erasure: Erasure, draft: Draft, head: Head, uow: UnitOfWork, context: ErasureContext
) -> tuple[Erasure, Removal]:
    now, before, site = context.clock.now(), head.position, erasure.site
    removed_entries = len(uow.entries.terms(site, after=last_subtraction(uow, site)))
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
        contribution_norm=draft.norm,
        head_norm_before=draft.norm_before,
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
    audit.record_removal(uow, erasure, removal, now)
    head.commit(uow, [*rows, row], draft.payloads, contribution=draft.contribution)
    return erasure, removal


def _removal_row(previous: Entry, erasure: Erasure, draft: Draft, now: datetime) -> Entry:
    details = {
        "erasure": erasure.id,
        "subtracted": draft.subtracts,
        "contribution_sha256": draft.sha256 if draft.subtracts else None,
        "flushed": merges(draft.pairs),
        "version_before": previous.version,
        "sha256_before": draft.sha256_before,
        "sha256_after": draft.sha256_after,
    }
    return follow(previous, EntryKind.REMOVAL, at=now, site=erasure.site, details=details)


def _shared(uow: UnitOfWork, erasure: Erasure) -> Removal | None:
    """A readmission of the site since this erasure was filed: it took these records out too."""
    for other in uow.erasures.of_site(erasure.site):
        removal, at = other.removal, other.removed_at
        if removal is None or at is None or not removal.subtracted:
            continue
        if at > erasure.fenced_at:
            return removal
    return None


def _save_shared(
    uow: UnitOfWork, erasure: Erasure, removal: Removal, context: ErasureContext
) -> Erasure:
    for version in (removal.version_before, removal.version_after):
        uow.models.pin(version, pin_reason(erasure.id))
    now = context.clock.now()
    shared = with_removal(erasure, removal, now)
    uow.erasures.save(shared)
    audit.record_removal(uow, shared, removal, now)
    uow.commit()
    return shared


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
