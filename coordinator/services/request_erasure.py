"""Files an unlearning request. When it returns, nothing of the subject enters a later version."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from coordinator.domain.erasure import OPEN, Erasure, ErasureState, Level
from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import BufferedDelta, FederationRow, ModelFile
from coordinator.domain.serving import ServingPolicy, begin_erasure
from coordinator.domain.site import Site, SiteState, fence, with_exclusion
from coordinator.domain.task import Task, TaskKind
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from coordinator.services.admit_erasure import Admitting, admitted, admitted_again
from coordinator.services.advance_serving import CANDIDATE_PIN, candidate_request
from coordinator.services.ask_approval import may_need_approval, share_asked_for
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.live_model import Head
from coordinator.services.remaining_subjects import remaining_subjects
from coordinator.services.withdraw_tasks import withdraw
from letheon.errors import (
    ErasureAlreadyRequested,
    MalformedRequest,
    RequestAltered,
    SiteFenced,
)
from letheon.federation.ledger import Entry, EntryKind
from letheon.names import erasure_name
from letheon.servicekit import tracing
from letheon.servicekit.caller import current_caller
from letheon.servicekit.faults import reach

_TEXT_LIMIT = 200
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{15,127}")
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
    records: str = ""  # opaque reference: some records of the site, which stays


def request_erasure(command: RequestErasure, context: ErasureContext) -> Erasure:
    """The erasure, its subject fenced. Repeating a request id gives the same one.

    One that needs the approval of a second operator is returned as it waits: nothing is fenced.

    Raises MalformedRequest, UnknownSite, ErasureAlreadyRequested, RequestAltered, SiteFenced;
    MethodRefused, LevelRefused or ContributionNotSubtractable, with which nothing is fenced.
    """
    received_at = context.clock.now()
    _check_fields(command)
    with context.store.read() as uow:
        known = _repeated(uow, command)
    if known is None:
        draft = _draft(command, context, received_at)
        known = _proposed(draft, context) or committed(draft, context, admitted)
        reach("request.committed")
    if known.state is ErasureState.AWAITING_APPROVAL:
        return known
    # Also for a request that is known: the call that filed it may have ended before this line.
    context.tombstones.record(known)
    reach("request.logged")
    tracing.leave(known.id)
    context.observe_stage("fence", (context.clock.now() - received_at).total_seconds())
    return known


def file_again(erasure: Erasure, context: ErasureContext) -> Erasure:
    """An erasure that a restored database lacks, under its old id. Repeating it is harmless."""
    now = context.clock.now()
    draft = replace(erasure, fenced_at=now, state_since=now)
    return committed(draft, context, admitted_again)


def _proposed(draft: Erasure, context: ErasureContext) -> Erasure | None:
    """The erasure as it waits for an approval; None if it needs none."""
    caller = current_caller()
    if context.approvals is None or not may_need_approval(caller):
        return None
    with context.store.write() as uow:
        known = _repeated(uow, draft)
        if known is not None:
            return known
        site = uow.sites.get(draft.site)
        share = share_asked_for(uow, site, draft.requested_at - context.approvals.window)
        if share <= context.approvals.share:
            return None
        _check_not_asked_before(uow, site, draft, but=frozenset({ErasureState.AWAITING_APPROVAL}))
        waiting = replace(draft, state=ErasureState.AWAITING_APPROVAL, share=share)
        erasure = admitted(waiting, uow, context)
        uow.erasures.add(erasure)
        _record(uow, draft.fenced_at, "erasure.awaits_approval", erasure)
        uow.commit()
    return erasure


def committed(draft: Erasure, context: ErasureContext, admitting: Admitting) -> Erasure:
    """The erasure in the database, its subject fenced; the one of that request if there is one."""
    with context.store.write() as uow:
        known = _filed(uow, draft)
        if known is not None:
            return known
        if not _waiting_of(uow, draft.site):
            # Without a ledger row to write, the fence does not wait for a merge that goes on.
            return _file(draft, admitting, context, uow)
    with context.live.exclusive() as head, context.store.write() as uow:
        known = _filed(uow, draft)
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
        records=command.records,
        requested_by=str(current_caller()),
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
    _check_not_asked_before(uow, site, draft)
    erasure = admitting(draft, uow, context)
    if erasure.names_site:
        uow.sites.save(fence(site, erasure.id))
        uow.erasures.save(erasure)
    else:
        site = with_exclusion(site)
        uow.sites.save(site)
        erasure = replace(erasure, exclusion_counter=site.exclusion_counter)
        uow.erasures.save(erasure)
        uow.tasks.add(_exclude_task(erasure, context, now))
    uow.outbox.add(erasure.id, now)
    _record(uow, now, "erasure.approved" if erasure.approved_by else "erasure.requested", erasure)
    _withhold(uow, context, site)
    if head is None:
        uow.commit()
    else:
        _commit_with_void(uow, head, erasure, now)
    return erasure


def _record(uow: UnitOfWork, now: datetime, action: str, erasure: Erasure) -> None:
    audit.record(
        uow,
        now,
        action,
        erasure_name(erasure.id),
        site=erasure.site,
        of_records=not erasure.names_site,
        legal_basis=erasure.legal_basis,
        level=erasure.level.value,
        method=erasure.method,
    )


def exclude_request(erasure: str) -> str:
    """The request id of the task that has a site exclude records."""
    return f"{erasure}-exclude"


def _exclude_task(erasure: Erasure, context: ErasureContext, now: datetime) -> Task:
    """While it waits, the site gets no train task: nothing is begun with the records any more."""
    return Task(
        id=context.new_id(),
        request_id=exclude_request(erasure.id),
        site=erasure.site,
        erasure=erasure.id,
        kind=TaskKind.EXCLUDE,
        payload={"records": erasure.records, "exclusion_counter": erasure.exclusion_counter},
        created_at=now,
    )


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
    if known is not None and (known.site, known.records) != (asked.site, asked.records):
        raise RequestAltered(
            f"request {asked.request_id} was filed for another subject",
            request_id=asked.request_id,
        )
    return known


def _filed(uow: UnitOfWork, draft: Erasure) -> Erasure | None:
    """The erasure of that request, unless it still waits to be filed."""
    known = _repeated(uow, draft)
    waits = known is not None and known.state is ErasureState.AWAITING_APPROVAL
    return None if waits else known


def _check_not_asked_before(
    uow: UnitOfWork, site: Site, draft: Erasure, *, but: frozenset[ErasureState] = frozenset()
) -> None:
    """A whole site asks once; records at most once, and not of a site that is to go.

    Neither while one in a state of `but` is there.
    """
    once = OPEN | {ErasureState.CERTIFIED} | but
    for earlier in uow.erasures.of_site(site.id):
        covers = earlier.names_site or earlier.records == draft.records
        if covers and earlier.state in once:
            what = f"sites/{site.id}" if earlier.names_site else "these records"
            raise ErasureAlreadyRequested(
                f"erasures/{earlier.id} names {what} already and is {earlier.state}",
                erasure=earlier.id,
                state=earlier.state,
            )
    if draft.records and site.state is not SiteState.ACTIVE:
        raise SiteFenced(
            f"sites/{site.id} is named by erasures/{site.erasure} as a whole: its records go with "
            "it",
            site=site.id,
            erasure=site.erasure,
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
    if command.records and not _REFERENCE.fullmatch(command.records):
        raise MalformedRequest(
            "records is an opaque reference: 16 to 128 letters, digits, dots, dashes or "
            "underscores, never a patient's identifier",
            field="records",
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
