"""Ends an erasure: with a signed certificate, or with the reason why it cannot be done."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coordinator.domain.claim import release
from coordinator.domain.erasure import Certificate, Erasure, ErasureState, check_open, move
from coordinator.domain.site import erased
from coordinator.ports import UnitOfWork
from coordinator.services.destroy_subject import destroy_marked
from coordinator.services.erasure_context import ErasureContext, job, pin_reason
from coordinator.services.withdraw_tasks import withdraw_tasks
from letheon import names
from letheon.errors import (
    AttemptMissing,
    BadSignature,
    CertificateInvalid,
    ErasureConcluded,
    MalformedRequest,
)
from letheon.servicekit.faults import reach
from letheon.servicekit.signing import canonical_json, verify

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
    _check_certificate(erasure, content)
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
        uow.sites.save(erased(uow.sites.get(erasure.site)))
        _tidy(uow, certified, context)
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


def _check_certificate(erasure: Erasure, content: bytes) -> None:
    """Its form, its signature by the key inside, and that it speaks of this erasure.

    Whether the key is the calibrator's own, the reader decides: the coordinator has no say in it.
    """
    if len(content) > _CERTIFICATE_LIMIT_BYTES:
        raise CertificateInvalid("a certificate has at most 1 MiB", rule="form")
    file = _parse(content)
    statement = file["statement"]
    try:
        verify(file["public_key_pem"], canonical_json(statement), _signature(file))
    except BadSignature as error:
        raise CertificateInvalid(error.message, rule="signature") from error
    if statement.get("erasure") != names.erasure_name(erasure.id):
        raise CertificateInvalid(
            f"the certificate speaks of {statement.get('erasure')!r}, not of erasures/{erasure.id}",
            rule="erasure",
        )


def _parse(content: bytes) -> Mapping[str, Any]:
    due = {"key_id", "public_key_pem", "signature", "statement"}
    try:
        file = json.loads(content)
    except ValueError as error:
        raise CertificateInvalid("the certificate is not JSON", rule="form") from error
    if not isinstance(file, dict) or set(file) != due or not isinstance(file["statement"], dict):
        raise CertificateInvalid(
            f"a certificate has the keys {', '.join(sorted(due))}", rule="form"
        )
    return file


def _signature(file: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(file["signature"]), validate=True)
    except binascii.Error as error:
        raise CertificateInvalid("the signature is not base64", rule="form") from error
