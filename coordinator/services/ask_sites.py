"""Asks sites on behalf of an erasure, and lists what they answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coordinator.domain.erasure import Erasure, check_open
from coordinator.domain.site import SiteState
from coordinator.domain.task import Task, TaskKind
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext, job, pin_reason
from coordinator.services.prepare_exchange import Prepared, keep_exchange, prepare_exchange
from letheon.errors import (
    MalformedRequest,
    ModelDestroyed,
    PatchVoid,
    RequestAltered,
    UnknownModelVersion,
    UnknownUpload,
)
from letheon.servicekit import tracing

_REQUEST_ID_LIMIT = 200


@dataclass(frozen=True)
class Question:
    """What sites are asked. `payload` holds the fields of the task, as in `Task.payload`."""

    kind: TaskKind
    versions: tuple[int, ...]
    payload: dict[str, object]


def ask_sites(
    erasure_id: str, token: int, request_id: str, question: Question, context: ErasureContext
) -> list[Task]:
    """The tasks of the question; none if nobody can be asked. Repeating it creates nothing new.

    Evaluate goes to every active site, audit and erase to the subject if it was seen lately. The
    versions stay readable until the erasure is concluded. One that another erasure destroyed is
    left out of an evaluation, and named in the others: the site then answers that it cannot.
    Of records, an erase task has the site exchange its deltas; errors as `prepare_exchange`.
    Raises UnknownErasure, ClaimLost, ErasureConcluded, MalformedRequest, RequestAltered;
    PatchVoid for a version whose file is gone, UnknownModelVersion for one that never was.
    """
    _check(request_id, question)
    with context.store.read() as uow:
        erasure = job(uow, erasure_id, token)
        is_known = bool(uow.tasks.of_request(request_id, erasure_id))
    prepared = None
    if not is_known and not erasure.names_site and question.kind is TaskKind.ERASE:
        prepared = prepare_exchange(erasure, context)
    head = context.live.position.version
    if head in question.versions:
        # A version is a file only once somebody needs it.
        context.files.of(head)
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = job(uow, erasure_id, token)
        known = uow.tasks.of_request(request_id, erasure_id)
        if known:
            _check_same(known[0], question, request_id)
            return known
        check_open(erasure)
        question = _without_destroyed(uow, question)
        _pin(uow, erasure, question)
        if not erasure.names_site:
            question = _of_records(question, erasure, prepared)
        if prepared is not None:
            keep_exchange(uow, erasure_id, token, prepared.exchange)
        tasks = [
            Task(
                id=context.new_id(),
                request_id=request_id,
                site=site,
                erasure=erasure_id,
                kind=question.kind,
                payload=question.payload,
                created_at=now,
            )
            for site in _asked(uow, erasure, question.kind, now, context)
        ]
        for task in tasks:
            uow.tasks.add(task)
        made = uow.tasks.of_request(request_id, erasure_id)
        uow.commit()
    for task in made:
        tracing.leave(task.id)  # whoever answers goes on with the trace of whoever asked
    return made


def list_answers(
    erasure_id: str, token: int, request_id: str, context: ErasureContext
) -> list[Task]:
    """The tasks of a question, answered or not. Raises UnknownErasure or ClaimLost."""
    with context.store.read() as uow:
        job(uow, erasure_id, token)
        return uow.tasks.of_request(request_id, erasure_id)


def answer_payload(erasure_id: str, token: int, update_id: str, context: ErasureContext) -> str:
    """Digest of the payload that belongs to an erase answer of this erasure.

    Raises UnknownErasure, ClaimLost or UnknownUpload.
    """
    with context.store.read() as uow:
        job(uow, erasure_id, token)
        receipt = uow.receipts.find(update_id)
        tasks = {task.id for task in uow.tasks.of_erasure(erasure_id)}
    if receipt is None or receipt.task not in tasks:
        raise UnknownUpload(
            f"{update_id} is no answer to a task of erasures/{erasure_id}", update_id=update_id
        )
    return receipt.sha256


def _check(request_id: str, question: Question) -> None:
    if not request_id or len(request_id) > _REQUEST_ID_LIMIT:
        raise MalformedRequest(
            f"request_id is due, at most {_REQUEST_ID_LIMIT} characters", field="request_id"
        )
    if not question.versions:
        raise MalformedRequest("versions are due", field="versions")


def _check_same(known: Task, question: Question, request_id: str) -> None:
    if known.kind is not question.kind:
        raise RequestAltered(
            f"request {request_id} was another question before", request_id=request_id
        )


def _asked(
    uow: UnitOfWork, erasure: Erasure, kind: TaskKind, now: datetime, context: ErasureContext
) -> list[str]:
    if kind is TaskKind.EVALUATE:
        return [site.id for site in uow.sites.all() if site.state is SiteState.ACTIVE]
    if kind is TaskKind.ERASE and not erasure.names_site:
        return [erasure.site]  # it stays, and an exchange may wait for it
    subject = context.presence.on(uow.sites.get(erasure.site))
    seen_lately = now - subject.last_seen_at <= context.limits.subject_seen_within
    return [subject.id] if seen_lately else []


def _of_records(question: Question, erasure: Erasure, prepared: Prepared | None) -> Question:
    """The question with the reference of the records, and what is to be recomputed."""
    if question.kind is TaskKind.EVALUATE:
        return question
    payload = {**question.payload, "records": erasure.records}
    if prepared is not None:
        payload["deltas"] = [list(delta) for delta in prepared.deltas]
    return Question(question.kind, question.versions, payload)


def _without_destroyed(uow: UnitOfWork, question: Question) -> Question:
    if question.kind is not TaskKind.EVALUATE:
        return question
    left = [version for version in question.versions if not _is_destroyed(uow, version)]
    if not left:
        raise ModelDestroyed("every version of the question was destroyed by an erasure")
    return Question(question.kind, tuple(left), {**question.payload, "versions": left})


def _is_destroyed(uow: UnitOfWork, version: int) -> bool:
    return any(d.first_version <= version <= d.last_version for d in uow.destroyed.versions())


def _pin(uow: UnitOfWork, erasure: Erasure, question: Question) -> None:
    newest = uow.entries.newest()
    for version in question.versions:
        if newest is None or version > newest.version or version < 0:
            raise UnknownModelVersion(f"models/{version} does not exist", version=version)
        if _is_destroyed(uow, version):
            continue
        if uow.models.find(version) is None:
            raise PatchVoid(
                f"the file of models/{version} is gone: choose the candidate again",
                version=version,
            )
        uow.models.pin(version, pin_reason(erasure.id))
