"""Wire messages to values of the domain and back: the only place that knows both."""

from __future__ import annotations

import re
from datetime import datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.domain.evidence import EntrySignature, SiteKey
from coordinator.domain.model import Export, ModelFile
from coordinator.domain.privacy import PrivacyLoss
from coordinator.domain.site import Site, SiteState
from coordinator.domain.task import Task, TaskKind
from coordinator.domain.upload import (
    AnswerPurpose,
    DeltaPurpose,
    Header,
    Outcome,
    PatchKind,
    PatchPurpose,
    Purpose,
    Receipt,
)
from letheon.errors import MalformedName, MalformedRequest
from letheon.federation.ledger import Entry, canonical_bytes
from letheon.names import (
    erasure_id,
    erasure_name,
    export_name,
    model_name,
    site_id,
    site_name,
    task_id,
    task_name,
)
from letheon.proof.update_signature import UpdateSignature
from letheon.servicekit.signing import read_signature
from letheon.v1 import ledger_pb2, models_pb2, sites_pb2, training_pb2

_UPDATE_ID = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")
_SHA256_BYTES = 32
_SITE_STATES = {
    SiteState.ACTIVE: sites_pb2.Site.ACTIVE,
    SiteState.FENCED: sites_pb2.Site.FENCED,
    SiteState.ERASED: sites_pb2.Site.ERASED,
}
_OUTCOMES = {
    Outcome.MERGED: training_pb2.Receipt.MERGED,
    Outcome.BUFFERED: training_pb2.Receipt.BUFFERED,
    Outcome.STORED: training_pb2.Receipt.STORED,
    Outcome.QUARANTINED: training_pb2.Receipt.BUFFERED,
}
_PATCH_KINDS = {
    training_pb2.PatchPurpose.PATCH: PatchKind.PATCH,
    training_pb2.PatchPurpose.CALIBRATION: PatchKind.CALIBRATION,
}


def timestamp(at: datetime) -> Timestamp:
    """An aware time on the wire."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def update_id(text: str) -> str:
    """A well-formed update id: it names a file. Raises MalformedName."""
    if not _UPDATE_ID.fullmatch(text):
        raise MalformedName(
            f"{text!r} is no update id: lower-case letters, digits and dashes, at most 64",
            name=text,
        )
    return text


def plain(message: Message) -> dict[str, object]:
    """The fields of a message by name, as JSON values; an absent optional field is left out."""
    found: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = [_plain_value(item) for item in value]
        else:
            found[field.name] = _plain_value(value)
    return found


def _plain_value(value: object) -> object:
    return plain(value) if isinstance(value, Message) else value


def header(message: training_pb2.UploadHeader) -> Header:
    """Raises MalformedName or MalformedRequest."""
    if len(message.sha256) != _SHA256_BYTES:
        raise MalformedRequest("sha256 must have 32 bytes", field="sha256")
    if message.size_bytes <= 0 or message.offset < 0:
        raise MalformedRequest("size_bytes or offset is out of range", field="size_bytes")
    return Header(
        update_id=update_id(message.update_id),
        size_bytes=message.size_bytes,
        sha256=message.sha256.hex(),
        offset=message.offset,
        layout=tuple((t.name, tuple(t.shape), t.dtype) for t in message.layout),
        purpose=_purpose(message),
        signature=(
            UpdateSignature(message.signature_key, message.signature) if message.signature else None
        ),
    )


def _purpose(message: training_pb2.UploadHeader) -> Purpose:
    match message.WhichOneof("purpose"):
        case "delta":
            delta = message.delta
            return DeltaPurpose(
                site=site_id(delta.site),
                task=task_id(delta.task),
                base_version=delta.base_version,
                epoch=delta.epoch,
                exclusion_counter=delta.exclusion_counter,
                record_count=delta.record_count,
                train_loss=delta.train_loss,
            )
        case "answer":
            return AnswerPurpose(site_id(message.answer.site), task_id(message.answer.task))
        case "patch":
            patch = message.patch
            kind = _PATCH_KINDS.get(patch.kind)
            if kind is None:
                raise MalformedRequest("the kind of the patch is missing", field="patch.kind")
            return PatchPurpose(
                erasure=erasure_id(patch.erasure),
                fencing_token=patch.fencing_token,
                kind=kind,
                epoch=patch.epoch,
                base_version=patch.base_version,
                site=site_id(patch.site) if patch.site else None,
            )
        case _:
            raise MalformedRequest("the purpose of the upload is missing", field="purpose")


def receipt(value: Receipt) -> training_pb2.Receipt:
    """A receipt on the wire."""
    return training_pb2.Receipt(
        update_id=value.update_id,
        outcome=_OUTCOMES[value.outcome],
        quarantined=value.outcome is Outcome.QUARANTINED,
        version=value.version,
        coefficient=value.coefficient,
        staleness=value.staleness,
        entry=value.entry,
        ledger_hash=value.ledger_hash,
        sha256=value.sha256,
    )


def privacy(message: sites_pb2.PrivacyLoss) -> PrivacyLoss:
    """Raises MalformedRequest for what cannot be."""
    return PrivacyLoss(
        epsilon=message.epsilon,
        delta=message.delta,
        budget=message.epsilon_budget,
        unit=message.unit,
        is_spent=message.spent,
    )


def site(
    value: Site, key: SiteKey | None = None, loss: PrivacyLoss | None = None
) -> sites_pb2.Site:
    """A site on the wire, with which key it signs, and what it says of its privacy."""
    message = sites_pb2.Site(
        name=site_name(value.id),
        state=_SITE_STATES[value.state],
        display_name=value.display_name,
        record_count=value.record_count,
        registered_at=timestamp(value.registered_at),
        last_seen_at=timestamp(value.last_seen_at),
        accepted_deltas=value.accepted_deltas,
        erasure="" if value.erasure is None else erasure_name(value.erasure),
        update_key="" if key is None else key.key_id,
    )
    if value.first_version is not None:
        message.first_version = value.first_version
    if value.last_version is not None:
        message.last_version = value.last_version
    if loss is not None:
        message.privacy.CopyFrom(
            sites_pb2.PrivacyLoss(
                epsilon=loss.epsilon,
                delta=loss.delta,
                epsilon_budget=loss.budget,
                unit=loss.unit,
                spent=loss.is_spent,
            )
        )
    return message


def task(value: Task) -> training_pb2.NextTaskResponse:
    """A stored task, as the answer to NextTask. Its payload has the fields of its message."""
    name, payload = task_name(value.id), value.payload
    if value.kind is TaskKind.EVALUATE:
        evaluate = training_pb2.EvaluateTask(name=name, versions=_versions(payload))
        return training_pb2.NextTaskResponse(evaluate=evaluate)
    erasure = erasure_name(value.erasure or "")
    if value.kind is TaskKind.AUDIT:
        audit = training_pb2.AuditTask(
            name=name,
            erasure=erasure,
            versions=_versions(payload),
            seed=_number(payload, "seed"),
            records=str(payload.get("records", "")),
        )
        return training_pb2.NextTaskResponse(audit=audit)
    if value.kind is TaskKind.EXCLUDE:
        exclude = training_pb2.ExcludeTask(
            name=name,
            erasure=erasure,
            records=str(payload["records"]),
            exclusion_counter=_number(payload, "exclusion_counter"),
        )
        return training_pb2.NextTaskResponse(exclude=exclude)
    if value.kind is TaskKind.INVALIDATE:
        invalidate = training_pb2.InvalidateTask(
            name=name,
            erasure=erasure,
            first_version=_number(payload, "first_version"),
            last_version=_number(payload, "last_version"),
            certificate=str(payload["certificate"]),
        )
        return training_pb2.NextTaskResponse(invalidate=invalidate)
    erase = training_pb2.EraseTask(
        name=name,
        erasure=erasure,
        method=str(payload.get("method", "")),
        parameters_json=str(payload.get("parameters_json", "")),
        version=_number(payload, "version"),
        seed=_number(payload, "seed"),
        records=str(payload.get("records", "")),
        deltas=_merged_deltas(payload),
    )
    return training_pb2.NextTaskResponse(erase=erase)


def _merged_deltas(payload: dict[str, object]) -> list[training_pb2.MergedDelta]:
    found = payload.get("deltas", [])
    return [
        training_pb2.MergedDelta(
            update_id=update, base_version=base, coefficient=float.fromhex(coefficient)
        )
        for update, base, coefficient in (found if isinstance(found, list) else [])
    ]


def _versions(payload: dict[str, object]) -> list[int]:
    found = payload.get("versions", [])
    return [int(version) for version in found] if isinstance(found, list) else []


def _number(payload: dict[str, object], key: str) -> int:
    found = payload.get(key, 0)
    return found if isinstance(found, int) else 0


def model(value: ModelFile, *, serving: int | None, head: int) -> models_pb2.Model:
    """A version with a file, on the wire."""
    return models_pb2.Model(
        name=model_name(value.version),
        version=value.version,
        epoch=value.epoch,
        state=models_pb2.Model.AVAILABLE,
        size_bytes=value.size_bytes,
        sha256=value.sha256,
        serving=value.version == serving,
        head=value.version == head,
        written_at=timestamp(value.written_at),
    )


def export(value: Export) -> models_pb2.Export:
    """An export on the wire."""
    return models_pb2.Export(
        name=export_name(value.request_id),
        model=model_name(value.version),
        recipient=value.recipient,
        purpose=value.purpose,
        exported_at=timestamp(value.exported_at),
        without=[site_name(site) for site in value.without],
    )


def entry(value: Entry, signature: EntrySignature | None) -> ledger_pb2.Entry:
    """A row of the ledger on the wire, with the signature of the site that sent it."""
    return ledger_pb2.Entry(
        entry=value.entry,
        kind=value.kind.value,
        version=value.version,
        epoch=value.epoch,
        site="" if value.site is None else site_name(value.site),
        canonical_json=canonical_bytes(value).decode(),
        hash=value.hash,
        at=timestamp(value.at),
        signature_key="" if signature is None else signature.key_id,
        signature=b"" if signature is None else read_signature(signature.signature),
    )
