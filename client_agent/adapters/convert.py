"""Protocol messages to the agent's own words and back."""

from __future__ import annotations

from dataclasses import asdict

from client_agent.domain.answers import (
    Answer,
    AuditAnswer,
    EraseAnswer,
    EvaluateAnswer,
    ExcludeAnswer,
    InvalidateAnswer,
    TaskFailure,
)
from client_agent.domain.privacy import PrivacyLoss
from client_agent.domain.tasks import (
    Assignment,
    AuditTask,
    EraseTask,
    EvaluateTask,
    ExcludeTask,
    InvalidateTask,
    MergedDelta,
    SiteState,
    Standing,
    Task,
    TrainTask,
    Wait,
)
from client_agent.domain.upload import DeltaFacts, Receipt, ReceiptOutcome, Upload
from letheon.errors import InternalFault
from letheon.federation.parameters import Layout
from letheon.names import site_id, task_id
from letheon.proof.manifest import Manifest
from letheon.proof.update_signature import SignedUpdate
from letheon.v1 import models_pb2, sites_pb2, training_pb2

_STATES = {
    sites_pb2.Site.ACTIVE: SiteState.ACTIVE,
    sites_pb2.Site.FENCED: SiteState.FENCED,
    sites_pb2.Site.ERASED: SiteState.ERASED,
}
_OUTCOMES = {
    training_pb2.Receipt.MERGED: ReceiptOutcome.MERGED,
    training_pb2.Receipt.BUFFERED: ReceiptOutcome.BUFFERED,
    training_pb2.Receipt.STORED: ReceiptOutcome.STORED,
}


def privacy_loss(loss: PrivacyLoss | None) -> sites_pb2.PrivacyLoss | None:
    """None where the site does not train privately."""
    if loss is None:
        return None
    return sites_pb2.PrivacyLoss(
        epsilon=loss.epsilon,
        delta=loss.delta,
        epsilon_budget=loss.budget,
        unit=loss.unit,
        spent=loss.is_spent,
    )


def standing(site: sites_pb2.Site) -> Standing:
    """Raises InternalFault for a state this agent does not know."""
    if site.state not in _STATES:
        raise InternalFault(f"the coordinator names a site state this agent lacks: {site.state}")
    return Standing(_STATES[site.state], site.erasure)


def assignment(response: training_pb2.NextTaskResponse) -> Assignment:
    """A response without an outcome is an immediate wait."""
    return Assignment(_work(response), response.epoch, response.traceparent)


def _work(response: training_pb2.NextTaskResponse) -> Task | Wait:
    match response.WhichOneof("outcome"):
        case "train":
            t = response.train
            return TrainTask(
                t.name, t.epoch, t.plan_digest, t.seed, t.exclusion_counter, t.learning_rate
            )
        case "evaluate":
            return EvaluateTask(response.evaluate.name, tuple(response.evaluate.versions))
        case "audit":
            a = response.audit
            return AuditTask(a.name, a.erasure, tuple(a.versions), a.seed, a.records)
        case "exclude":
            x = response.exclude
            return ExcludeTask(x.name, x.erasure, x.records)
        case "invalidate":
            i = response.invalidate
            return InvalidateTask(i.name, i.erasure, i.first_version, i.last_version)
        case "erase":
            e = response.erase
            deltas = tuple(
                MergedDelta(d.update_id, d.base_version, d.coefficient) for d in e.deltas
            )
            return EraseTask(
                e.name, e.erasure, e.method, e.parameters_json, e.version, e.seed, e.records, deltas
            )
        case _:
            return Wait(response.retry_after.ToTimedelta().total_seconds())


def receipt(message: training_pb2.Receipt) -> Receipt:
    """Raises InternalFault for an outcome this agent does not know."""
    if message.outcome not in _OUTCOMES:
        raise InternalFault(f"the receipt has an outcome this agent lacks: {message.outcome}")
    return Receipt(
        update_id=message.update_id,
        outcome=_OUTCOMES[message.outcome],
        version=message.version,
        coefficient=message.coefficient,
        staleness=message.staleness,
        entry=message.entry,
        ledger_hash=message.ledger_hash,
        sha256=message.sha256,
    )


def upload_header(upload: Upload, site: str, layout: Layout) -> training_pb2.UploadHeader:
    """The header without its offset."""
    payload = upload.payload
    header = training_pb2.UploadHeader(
        update_id=upload.update_id,
        size_bytes=payload.size_bytes,
        sha256=bytes.fromhex(payload.sha256),
        layout=[
            training_pb2.TensorSpec(name=spec.name, shape=spec.shape, dtype=payload.encoding)
            for spec in layout.tensors
        ],
    )
    match upload.purpose:
        case DeltaFacts() as facts:
            header.delta.CopyFrom(
                training_pb2.DeltaPurpose(
                    site=site,
                    task=upload.task,
                    base_version=facts.base_version,
                    epoch=facts.epoch,
                    exclusion_counter=facts.exclusion_counter,
                    record_count=facts.record_count,
                    train_loss=facts.train_loss,
                )
            )
        case EraseAnswer():
            header.answer.CopyFrom(training_pb2.AnswerPurpose(site=site, task=upload.task))
    return header


def signed_update(header: training_pb2.UploadHeader) -> SignedUpdate:
    """What the site signs of an upload."""
    delta = header.delta if header.WhichOneof("purpose") == "delta" else None
    site, task = (delta or header.answer).site, (delta or header.answer).task
    return SignedUpdate(
        site=site_id(site),
        update_id=header.update_id,
        task=task_id(task),
        base_version=-1 if delta is None else delta.base_version,
        epoch=-1 if delta is None else delta.epoch,
        record_count=0 if delta is None else delta.record_count,
        payload_sha256=header.sha256.hex(),
        payload_bytes=header.size_bytes,
        encoding=header.layout[0].dtype,
    )


def manifest(header: models_pb2.Model) -> Manifest:
    """What the coordinator signed of a download."""
    return Manifest(
        origin=header.origin,
        name=header.name,
        version=header.version,
        epoch=header.epoch,
        size_bytes=header.size_bytes,
        sha256=header.sha256,
        plan_digest=header.plan_digest,
    )


def answer_request(site: str, task: str, answer: Answer) -> training_pb2.SubmitAnswerRequest:
    """The answer on the wire; the domain's field names are those of the protocol."""
    request = training_pb2.SubmitAnswerRequest(site=site, task=task)
    match answer:
        case EvaluateAnswer(utilities):
            request.evaluate.CopyFrom(
                training_pb2.EvaluateAnswer(
                    utilities=[training_pb2.Utility(**asdict(one)) for one in utilities]
                )
            )
        case AuditAnswer(statistics):
            request.audit.CopyFrom(
                training_pb2.AuditAnswer(
                    statistics=[training_pb2.ForgetStatistic(**asdict(one)) for one in statistics]
                )
            )
        case EraseAnswer():
            request.erase.CopyFrom(training_pb2.EraseAnswer(**asdict(answer)))
        case ExcludeAnswer(found):
            request.exclude.CopyFrom(training_pb2.ExcludeAnswer(found=found))
        case InvalidateAnswer(removed):
            request.invalidate.CopyFrom(training_pb2.InvalidateAnswer(copies_removed=removed))
        case TaskFailure(reason):
            request.failure.CopyFrom(training_pb2.TaskFailure(reason=reason))
    return request
