"""Wire messages to the calibrator's own words and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from calibrator.domain.case import Claim, Erasure, ModelRef, Removal, Ticket
from calibrator.ports import (
    Answer,
    Attempt,
    AuditAnswered,
    CannotAnswer,
    EvaluateAnswered,
    ExcludeAnswered,
    PatchUpload,
    UtilityAnswer,
)
from letheon.federation.plan import Plan
from letheon.servicekit.signing import canonical_json
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.gate import Test, Verdict
from letheon.unlearning.method import TargetAnswered
from letheon.v1 import erasures_pb2, models_pb2, training_pb2

_VERDICTS = {
    Verdict.PASS: erasures_pb2.Attempt.PASS,
    Verdict.FAIL: erasures_pb2.Attempt.FAIL,
    Verdict.INCONCLUSIVE: erasures_pb2.Attempt.INCONCLUSIVE,
}
_DEFAULT_LEVEL = "L1"


def moment(stamp: Timestamp) -> datetime:
    """UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def timestamp(at: datetime) -> Timestamp:
    """The wire form."""
    stamp = Timestamp()
    stamp.FromDatetime(at.astimezone(UTC).replace(tzinfo=None))
    return stamp


def erasure_from(message: erasures_pb2.Erasure) -> Erasure:
    """The parts of an erasure that the calibrator needs."""
    level = _level(message.level) or _DEFAULT_LEVEL
    promoted = message.HasField("promoted_at")
    return Erasure(
        name=message.name,
        request_id=message.request_id,
        site=message.site,
        legal_basis=message.legal_basis,
        level=level,
        method=message.method,
        calibrate=message.calibrate,
        requested_at=moment(message.requested_at),
        fenced_at=moment(message.fenced_at),
        deadline=moment(message.deadline),
        promoted_at=moment(message.promoted_at) if promoted else None,
        level_admitted=_level(message.level_admitted) or level,
        caveats=tuple(message.caveats),
        uncertifiable=message.uncertifiable,
        records=message.records,
    )


def _level(number: erasures_pb2.AssuranceLevel.ValueType) -> str:
    """`L1`; empty for one that was not told."""
    return erasures_pb2.AssuranceLevel.Name(number) if number else ""


def claim_from(message: erasures_pb2.Claim) -> Claim:
    """A claim with its ticket."""
    erasure = erasure_from(message.erasure)
    return Claim(
        erasure=erasure,
        ticket=Ticket(erasure.name, message.fencing_token),
        lease_s=message.lease.ToTimedelta().total_seconds(),
        progress_json=message.progress_json,
    )


def removal_from(message: erasures_pb2.Removal) -> Removal:
    """What the removal did."""
    return Removal(
        epoch=message.epoch,
        version_before=message.version_before,
        version_after=message.version_after,
        sha256_before=message.sha256_before,
        sha256_after=message.sha256_after,
        contribution_norm=message.contribution_norm,
        head_norm_before=message.head_norm_before,
        removed_entries=message.removed_entries,
        voided_entries=message.voided_entries,
        subtracted=message.subtracted,
        exchanged=message.exchanged,
    )


def model_from(message: models_pb2.Model) -> ModelRef:
    """One version."""
    return ModelRef(message.version, message.epoch, message.sha256)


def answer_from(message: erasures_pb2.Answer) -> Answer:
    """One task and its outcome."""
    match message.WhichOneof("outcome"):
        case "evaluate":
            utilities = tuple(
                UtilityAnswer(u.version, u.records, u.accuracy) for u in message.evaluate.utilities
            )
            return Answer(message.site, EvaluateAnswered(utilities))
        case "audit":
            statistics = {s.version: statistic_from(s) for s in message.audit.statistics}
            return Answer(message.site, AuditAnswered(statistics))
        case "erase":
            erase = message.erase
            answered = TargetAnswered(
                erase.update_id, erase.norm, erase.steps, erase.loss_before, erase.loss_after
            )
            return Answer(message.site, answered)
        case "exclude":
            return Answer(message.site, ExcludeAnswered(message.exclude.found))
        case "failure":
            return Answer(message.site, CannotAnswer(message.failure.reason))
        case _:
            return Answer(message.site, None)


def statistic_from(message: training_pb2.ForgetStatistic) -> ForgetStatistic:
    """One version's forget statistic."""
    return ForgetStatistic(
        erased_records=message.erased_records,
        control_records=message.control_records,
        auc=message.auc,
        auc_low=message.auc_low,
        auc_high=message.auc_high,
        tpr_at_1pct_fpr=message.tpr_at_1pct_fpr,
        accuracy_erased=message.accuracy_erased,
        accuracy_control=message.accuracy_control,
        accuracy_gap_low=message.accuracy_gap_low,
        accuracy_gap_high=message.accuracy_gap_high,
        mean_loss_erased=message.mean_loss_erased,
        mean_loss_control=message.mean_loss_control,
    )


def attempt_to(attempt: Attempt) -> erasures_pb2.Attempt:
    """A run of the gate."""
    return erasures_pb2.Attempt(
        number=attempt.number,
        version=attempt.version,
        verdict=_VERDICTS[attempt.judgement.verdict],
        tests=[_test_to(test) for test in attempt.judgement.tests],
        at=timestamp(attempt.at),
        accepted_since_removal=attempt.accepted_since_removal,
    )


def _test_to(test: Test) -> erasures_pb2.Attempt.Test:
    return erasures_pb2.Attempt.Test(
        name=test.name,
        verdict=_VERDICTS[test.verdict],
        positive_control_fired=test.positive_control_fired,
        detail=test.detail,
        numbers_json=canonical_json(dict(test.numbers)).decode(),
    )


def evidence_from(text: str) -> dict[str, object]:
    """The process evidence of a passing attempt; empty for any other."""
    content = json.loads(text) if text else {}
    return content if isinstance(content, dict) else {"evidence": content}


def patch_header(
    patch: PatchUpload, erasure: str, token: int, plan: Plan
) -> training_pb2.UploadHeader:
    """The header of a patch's upload."""
    kinds = training_pb2.PatchPurpose
    layout = [
        training_pb2.TensorSpec(name=t.name, shape=t.shape, dtype=plan.patch_encoding)
        for t in plan.parameters.tensors
    ]
    return training_pb2.UploadHeader(
        update_id=patch.update_id,
        size_bytes=patch.size_bytes,
        sha256=bytes.fromhex(patch.sha256),
        layout=layout,
        patch=training_pb2.PatchPurpose(
            erasure=erasure,
            fencing_token=token,
            kind=kinds.CALIBRATION if patch.kind == "calibration" else kinds.PATCH,
            epoch=patch.epoch,
            base_version=patch.base_version,
            site=patch.site,
        ),
    )
