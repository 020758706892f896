"""Ends an erasure: with a signed certificate, or with the reason why it cannot be done."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from coordinator.domain.claim import release
from coordinator.domain.erasure import Certificate, Erasure, ErasureState, check_open, move
from coordinator.domain.evidence import LeafKind
from coordinator.domain.site import erased
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from coordinator.services.destroy_subject import destroy_marked
from coordinator.services.erasure_context import ErasureContext, job, pin_reason
from coordinator.services.notify_recipients import notify
from coordinator.services.transparency import Transparency
from coordinator.services.withdraw_tasks import withdraw_tasks
from letheon import names
from letheon.errors import (
    AttemptMissing,
    CertificateInvalid,
    ErasureConcluded,
    MalformedRequest,
)
from letheon.proof.certificate import FORMAT, fingerprint
from letheon.proof.envelope import Statement, open_envelope, read_canonical
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)
_REASON_LIMIT = 2000
_CERTIFICATE_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Certified:
    """The certificate file."""

    content: bytes


@dataclass(frozen=True)
class Failed:
    """A sentence."""

    reason: str


def conclude_erasure(
    erasure_id: str, token: int, end: Certified | Failed, context: ErasureContext
) -> Erasure:
    """The concluded erasure. Repeating the same end is harmless.

    Raises UnknownErasure, ClaimLost, CertificateInvalid, AttemptMissing, MalformedRequest;
    ErasureConcluded if it came to another end.
    """
    with context.store.read() as uow:
        erasure = job(uow, erasure_id, token)
    if not _ended_so(erasure, end, context):
        check_open(erasure)
        match end:
            case Certified(content):
                erasure = _certify(erasure, token, content, context)
            case Failed(reason):
                erasure = _fail(erasure_id, token, reason, context)
        reach("conclusion.committed")
    context.tombstones.record(erasure)
    return erasure


def _ended_so(erasure: Erasure, end: Certified | Failed, context: ErasureContext) -> bool:
    if erasure.is_open:
        return False
    match end:
        case Certified(content):
            if erasure.state is ErasureState.CERTIFIED:
                with context.store.read() as uow:
                    same = uow.certificates.get(erasure.id).content == content
                if not same:
                    raise ErasureConcluded(
                        f"erasures/{erasure.id} has another certificate",
                        erasure=erasure.id,
                        state=erasure.state,
                    )
                return True
            return False
        case Failed():
            return erasure.state is ErasureState.FAILED


def _certify(erasure: Erasure, token: int, content: bytes, context: ErasureContext) -> Erasure:
    statement = _check_certificate(erasure, content, context.log)
    if erasure.promoted_at is None:
        raise AttemptMissing(
            f"erasures/{erasure.id} has no passing attempt: a certificate needs one",
            erasure=erasure.id,
        )
    destroy_marked(erasure, context)
    reach("subject.destroyed")
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = job(uow, erasure.id, token)
        certified = move(erasure, ErasureState.CERTIFIED, now)
        uow.certificates.add(Certificate(erasure.id, content, now))
        audit.record(
            uow,
            now,
            "erasure.certified",
            names.erasure_name(erasure.id),
            site=erasure.site,
            sha256=fingerprint(content),
        )
        if erasure.names_site:
            uow.sites.save(erased(uow.sites.get(erasure.site)))
        _tidy(uow, certified, context)
        if _origin(statement) is not None:
            context.log.add_audit_head(uow)
            context.log.add(uow, LeafKind.CERTIFICATE, content, erasure=erasure.id)
            context.log.sign(uow, now)
            notify(uow, erasure.id, statement, context.new_id)
        uow.commit()
    _observe_end(certified, context)
    return certified


def _fail(erasure_id: str, token: int, reason: str, context: ErasureContext) -> Erasure:
    if not reason.strip():
        raise MalformedRequest("a failure needs a reason", field="failure")
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = job(uow, erasure_id, token)
        failed = replace(move(erasure, ErasureState.FAILED, now), failure=reason[:_REASON_LIMIT])
        _tidy(uow, failed, context)
        audit.record(uow, now, "erasure.failed", names.erasure_name(erasure_id), site=erasure.site)
        uow.commit()
    _observe_end(failed, context)
    return failed


def _tidy(uow: UnitOfWork, erasure: Erasure, context: ErasureContext) -> None:
    uow.erasures.save(erasure)
    uow.models.unpin(pin_reason(erasure.id))
    now = context.clock.now()
    withdraw_tasks(uow, erasure.id, now)
    claim = uow.claims.find(erasure.id)
    if claim is not None:
        # Nobody can claim it again; the token stays, so that repeating the call is harmless.
        uow.claims.save(release(claim, now))


def _observe_end(erasure: Erasure, context: ErasureContext) -> None:
    now = context.clock.now()
    if erasure.promoted_at is not None:
        context.observe_stage("conclude", (now - erasure.promoted_at).total_seconds())
    context.observe_stage("total", (now - erasure.requested_at).total_seconds())
    level = logging.ERROR if erasure.state is ErasureState.FAILED else logging.INFO
    _log.log(
        level,
        "erasure_concluded",
        extra={"erasure": erasure.id, "state": erasure.state.value, "failure": erasure.failure},
    )


def _check_certificate(erasure: Erasure, content: bytes, log: Transparency) -> Statement:
    """Its form, its signature by the key inside, and that it speaks of this erasure.

    Whether the key is the calibrator's own, the reader decides: the coordinator has no say in it.
    """
    if len(content) > _CERTIFICATE_LIMIT_BYTES:
        raise CertificateInvalid("a certificate has at most 1 MiB", rule="form")
    fields = read_canonical(content)
    statement = open_envelope(fields).statement
    if statement.get("erasure") != names.erasure_name(erasure.id):
        raise CertificateInvalid(
            f"the certificate speaks of {statement.get('erasure')!r}, not of erasures/{erasure.id}",
            rule="erasure",
        )
    origin = _origin(statement)
    if origin is not None and origin != log.origin:
        raise CertificateInvalid(
            f"the certificate speaks of the federation {origin}, this is {log.origin}",
            rule="federation",
        )
    return statement


def _origin(statement: Statement) -> str | None:
    """None for a statement of the older format, which is not logged."""
    if statement.get("format") != FORMAT:
        return None
    federation = statement.get("federation")
    return str(federation.get("origin", "")) if isinstance(federation, dict) else ""
