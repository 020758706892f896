"""Files an unlearning request. When it returns, nothing of the subject enters a later version."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from coordinator.domain.erasure import OPEN, Erasure, ErasureState, Level
from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import BufferedDelta, FederationRow, ModelFile
from coordinator.domain.serving import ServingPolicy, begin_erasure
from coordinator.domain.site import Site, fence
from coordinator.ports import UnitOfWork
from coordinator.services.admit_erasure import Admitting, admitted, admitted_again
from coordinator.services.advance_serving import CANDIDATE_PIN, candidate_request
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.live_model import Head
from coordinator.services.remaining_subjects import remaining_subjects
from coordinator.services.withdraw_tasks import withdraw
from letheon.errors import (
    ErasureAlreadyRequested,
    MalformedRequest,
    RequestAltered,
)
from letheon.federation.ledger import Entry, EntryKind
from letheon.servicekit.faults import reach

_TEXT_LIMIT = 200
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")
_LONGEST_DEADLINE = timedelta(days=3650)
FALLBACK_PIN = "fallback"


@dataclass(frozen=True)
class RequestErasure:
    """What is asked. `site` is an identifier; no deadline means that of the plan."""

    request_id: str
    site: str
    legal_basis: str
    deadline: timedelta | None = None
    level: Level = Level.L1
    method: str = "removal"
    calibrate: bool = False
    requester: str = ""


def request_erasure(command: RequestErasure, context: ErasureContext) -> Erasure:
    """The erasure, its subject fenced. Repeating a request id gives the same one.

    Raises MalformedRequest, UnknownSite, ErasureAlreadyRequested, RequestAltered; MethodRefused,
    LevelRefused or ContributionNotSubtractable, with which nothing is fenced.
    """
    received_at = context.clock.now()
    _check_fields(command)
    with context.store.read() as uow:
        known = _repeated(uow, command)
    if known is None:
        known = _committed(_draft(command, context, received_at), context, admitted)
        reach("request.committed")
    # Also for a request that is known: the call that filed it may have ended before this line.
    context.tombstones.record(known)
    reach("request.logged")
    context.observe_stage("fence", (context.clock.now() - received_at).total_seconds())
    return known


def file_again(erasure: Erasure, context: ErasureContext) -> Erasure:
    """An erasure that a restored database lacks, under its old id. Repeating it is harmless."""
    now = context.clock.now()
    draft = replace(erasure, fenced_at=now, state_since=now)
    return _committed(draft, context, admitted_again)


def _committed(draft: Erasure, context: ErasureContext, admitting: Admitting) -> Erasure:
    """The erasure in the database, its subject fenced; the one of that request if there is one."""
    with context.store.write() as uow:
        known = _repeated(uow, draft)
        if known is not None:
            return known
        if not _waiting_of(uow, draft.site):
            # Without a ledger row to write, the fence does not wait for a merge that goes on.
            return _file(draft, admitting, context, uow)
    with context.live.exclusive() as head, context.store.write() as uow:
        known = _repeated(uow, draft)
        return known or _file(draft, admitting, context, uow, head=head)


def _draft(command: RequestErasure, context: ErasureContext, received_at: datetime) -> Erasure:
    now = context.clock.now()
    deadline = command.deadline or timedelta(days=context.plan.erasure.deadline_days)
    return Erasure(
        id=context.new_id(),
        request_id=command.request_id,
        site=command.site,
        legal_basis=command.legal_basis,
        level=command.level,
        method=command.method,
        calibrate=command.calibrate,
        requester=command.requester,
        state=ErasureState.RECEIVED,
        requested_at=received_at,
        fenced_at=now,
        deadline=received_at + deadline,
        state_since=now,
    )


def _file(
    draft: Erasure,
    admitting: Admitting,
    context: ErasureContext,
    uow: UnitOfWork,
    *,
    head: Head | None = None,
) -> Erasure:
    now = draft.fenced_at
    site = uow.sites.get(draft.site)
    _check_not_asked_before(uow, site)
    erasure = admitting(draft, uow, context)
    uow.erasures.add(erasure)
    uow.sites.save(fence(site, erasure.id))
    uow.outbox.add(erasure.id, now)
    _withhold(uow, context, site)
    if head is None:
        uow.commit()
    else:
        _commit_with_void(uow, head, erasure, now)
    return erasure


def _commit_with_void(uow: UnitOfWork, head: Head, erasure: Erasure, now: datetime) -> None:
    waiting = _waiting_of(uow, erasure.site)
    rows = [void_row(uow, head, erasure.site, waiting, now)] if waiting else []
    head.commit(uow, rows)


def void_row(
    uow: UnitOfWork, head: Head, site: str, waiting: list[BufferedDelta], now: datetime
) -> Entry:
    """Adds the row that voids the waiting deltas of a subject, and marks them."""
    numbers = [delta.entry for delta in waiting]
    row = follow(head.newest, EntryKind.VOID, at=now, site=site, details={"entries": numbers})
    uow.entries.add(row)
    for delta in waiting:
        uow.buffered.save(replace(delta, voided_by=row.entry))
    uow.federation.count("voided", by=len(numbers))
    return row


def _waiting_of(uow: UnitOfWork, site: str) -> list[BufferedDelta]:
    return [delta for delta in uow.buffered.waiting() if delta.site == site]


def _repeated(uow: UnitOfWork, asked: RequestErasure | Erasure) -> Erasure | None:
    known = uow.erasures.by_request(asked.request_id)
    if known is not None and known.site != asked.site:
        raise RequestAltered(
            f"request {asked.request_id} was filed for another subject",
            request_id=asked.request_id,
        )
    return known


def _check_not_asked_before(uow: UnitOfWork, site: Site) -> None:
    for earlier in uow.erasures.of_site(site.id):
        if earlier.state in OPEN or earlier.state is ErasureState.CERTIFIED:
            raise ErasureAlreadyRequested(
                f"erasures/{earlier.id} names sites/{site.id} already and is {earlier.state}",
                erasure=earlier.id,
                state=earlier.state,
            )


def _check_fields(command: RequestErasure) -> None:
    if not command.request_id.strip() or len(command.request_id) > _TEXT_LIMIT:
        raise MalformedRequest(
            f"request_id is due: any text of at most {_TEXT_LIMIT} characters, the same at every "
            "repetition",
            field="request_id",
        )
    if not _CODE.fullmatch(command.legal_basis):
        raise MalformedRequest(
            "legal_basis is due: a code such as GDPR-17-1-b, without spaces", field="legal_basis"
        )
    if len(command.requester) > _TEXT_LIMIT:
        raise MalformedRequest(
            f"requester has more than {_TEXT_LIMIT} characters", field="requester"
        )
    deadline = command.deadline
    if deadline is not None and not timedelta(0) < deadline <= _LONGEST_DEADLINE:
        raise MalformedRequest(
            f"deadline must lie in the future, at most {_LONGEST_DEADLINE.days} days away",
            field="deadline",
        )


def _withhold(uow: UnitOfWork, context: ErasureContext, site: Site) -> None:
    """Applies the serving policy to a version that carries the subject."""
    row = uow.federation.get()
    policy = ServingPolicy(context.plan.serving.policy)
    fallback = None
    if policy is ServingPolicy.SERVE_FALLBACK and _serves(row, site):
        fallback = _fallback(uow, context, site)
    changed = begin_erasure(
        row, policy, subject_first_version=site.first_version, fallback_version=fallback
    )
    if changed != row:
        uow.federation.save(changed)
    if row.candidate_version is not None:
        uow.models.unpin(CANDIDATE_PIN)
        asked = uow.tasks.of_request(candidate_request(row.candidate_version), None)
        withdraw(uow, asked, context.clock.now())


def _serves(row: FederationRow, site: Site) -> bool:
    first = site.first_version
    return first is not None and row.serving_version is not None and row.serving_version >= first


def _fallback(uow: UnitOfWork, context: ErasureContext, site: Site) -> int | None:
    """The newest anchor from before the subject's first contribution, as a model file."""
    gone = uow.destroyed.versions()
    due = [e.site for e in uow.erasures.open() if e.removal is None]
    # An anchor must not hold any other subject whose removal is due either.
    firsts = [
        first
        for name in {site.id, *due, *remaining_subjects(uow)}
        if (first := uow.sites.get(name).first_version) is not None
    ]
    bound = min(firsts) if firsts else 0
    for anchor in uow.checkpoints.all():
        version = anchor.version
        destroyed = any(d.first_version <= version <= d.last_version for d in gone)
        if not anchor.is_anchor or version >= bound or destroyed:
            continue
        if uow.models.find(version) is None:
            weights = context.blobs.checkpoints.get(anchor.sha256)
            sha256 = context.blobs.models.put(weights)
            uow.models.add(
                ModelFile(version, anchor.epoch, sha256, len(weights), context.clock.now())
            )
        uow.models.pin(version, FALLBACK_PIN)
        return version
    return None
