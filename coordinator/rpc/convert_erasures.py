"""Erasures, attempts, questions and certificates: wire messages to values and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from coordinator.domain.claim import Claim
from coordinator.domain.erasure import (
    Attempt,
    Certificate,
    Erasure,
    ErasureState,
    Level,
    Removal,
    Verdict,
)
from coordinator.domain.task import AnswerKind, Task, TaskKind
from coordinator.rpc.convert import timestamp
from coordinator.services.ask_sites import Question
from coordinator.services.conclude_erasure import Certified, Failed
from coordinator.services.gate_attempt import RunOfTheGate
from coordinator.services.request_erasure import RequestErasure
from letheon.errors import MalformedRequest
from letheon.names import certificate_name, erasure_name, site_id, site_name, task_name
from letheon.v1 import certificates_pb2, erasures_pb2, training_pb2

DEFAULT_METHOD = "removal"
METHOD_OF_RECORDS = "patient_swap"
_LEVELS_ON_THE_WIRE = {
    Level.L0: erasures_pb2.L0,
    Level.L1: erasures_pb2.L1,
    Level.L2: erasures_pb2.L2,
    Level.L3: erasures_pb2.L3,
}
_LEVELS = {
    erasures_pb2.ASSURANCE_LEVEL_UNSPECIFIED: Level.L1,
    **{number: level for level, number in _LEVELS_ON_THE_WIRE.items()},
}
_STATES = {state: erasures_pb2.Erasure.State.Value(state.value.upper()) for state in ErasureState}
_STATES_FROM_THE_WIRE = {number: state for state, number in _STATES.items()}
_VERDICTS = {
    verdict: erasures_pb2.Attempt.Verdict.Value(verdict.value.upper()) for verdict in Verdict
}
_VERDICTS_FROM_THE_WIRE = {number: verdict for verdict, number in _VERDICTS.items()}


def request_command(message: erasures_pb2.RequestErasureRequest) -> RequestErasure:
    """Raises MalformedName or MalformedRequest."""
    level = _LEVELS.get(message.level)
    if level is None:
        raise MalformedRequest(f"there is no level {message.level}", field="level")
    return RequestErasure(
        request_id=message.request_id,
        site=site_id(message.site),
        legal_basis=message.legal_basis,
        deadline=message.deadline.ToTimedelta() if message.HasField("deadline") else None,
        level=level,
        method=message.method or (METHOD_OF_RECORDS if message.records else DEFAULT_METHOD),
        calibrate=message.calibrate,
        requester=message.requester,
        records=message.records,
    )


def erasure(
    value: Erasure, attempts: Sequence[Attempt], claim: Claim | None
) -> erasures_pb2.Erasure:
    """An erasure with its attempts, and who works on it."""
    message = erasures_pb2.Erasure(
        name=erasure_name(value.id),
        request_id=value.request_id,
        site=site_name(value.site),
        legal_basis=value.legal_basis,
        level=_LEVELS_ON_THE_WIRE[value.level],
        method=value.method,
        calibrate=value.calibrate,
        requester=value.requester,
        state=_STATES[value.state],
        requested_at=timestamp(value.requested_at),
        deadline=timestamp(value.deadline),
        attempts=[attempt(one) for one in attempts],
        failure=value.failure,
        level_admitted=_LEVELS_ON_THE_WIRE[value.level_admitted],
        caveats=value.caveats,
        uncertifiable=value.uncertifiable,
        records=value.records,
        exclusion_counter=value.exclusion_counter,
        requested_by=value.requested_by,
        approved_by=value.approved_by,
        share=value.share,
    )
    if value.is_fenced:
        message.fenced_at.CopyFrom(timestamp(value.fenced_at))
    if value.removed_at is not None:
        message.removed_at.CopyFrom(timestamp(value.removed_at))
    if value.promoted_at is not None:
        message.promoted_at.CopyFrom(timestamp(value.promoted_at))
    if value.concluded_at is not None:
        message.concluded_at.CopyFrom(timestamp(value.concluded_at))
    if value.removal is not None:
        message.removal.CopyFrom(removal(value.removal))
    if value.state is ErasureState.CERTIFIED:
        message.certificate = certificate_name(value.id)
    if value.is_open and claim is not None:
        message.holder = claim.holder
    return message


def removal(value: Removal) -> erasures_pb2.Removal:
    """What a removal did."""
    return erasures_pb2.Removal(
        epoch=value.epoch,
        version_before=value.version_before,
        version_after=value.version_after,
        sha256_before=value.sha256_before,
        sha256_after=value.sha256_after,
        contribution_norm=value.contribution_norm,
        head_norm_before=value.head_norm_before,
        removed_entries=value.removed_entries,
        voided_entries=value.voided_entries,
        subtracted=value.subtracted,
        exchanged=value.exchanged,
    )


def attempt(value: Attempt) -> erasures_pb2.Attempt:
    """A recorded run of the gate."""
    return erasures_pb2.Attempt(
        number=value.number,
        version=value.version,
        verdict=_VERDICTS[value.verdict],
        tests=[_test(test) for test in value.tests],
        at=timestamp(value.at),
        accepted_since_removal=value.accepted_since_removal,
    )


def _test(test: dict[str, object]) -> erasures_pb2.Attempt.Test:
    return erasures_pb2.Attempt.Test(
        name=str(test["name"]),
        verdict=_VERDICTS[Verdict(str(test["verdict"]))],
        positive_control_fired=bool(test["positive_control_fired"]),
        detail=str(test["detail"]),
        numbers_json=str(test["numbers_json"]),
    )


def run_of_the_gate(message: erasures_pb2.Attempt) -> RunOfTheGate:
    """Raises MalformedRequest."""
    return RunOfTheGate(
        number=message.number,
        version=message.version,
        verdict=_verdict(message.verdict, "attempt.verdict"),
        tests=[
            {
                "name": test.name,
                "verdict": _verdict(test.verdict, "attempt.tests.verdict").value,
                "positive_control_fired": test.positive_control_fired,
                "detail": test.detail,
                "numbers_json": test.numbers_json,
            }
            for test in message.tests
        ],
    )


def _verdict(number: int, field: str) -> Verdict:
    found = _VERDICTS_FROM_THE_WIRE.get(erasures_pb2.Attempt.Verdict.ValueType(number))
    if found is None:
        raise MalformedRequest("a verdict is due: PASS, FAIL or INCONCLUSIVE", field=field)
    return found


def claim(
    value: Erasure, attempts: Sequence[Attempt], taken: Claim, lease: timedelta
) -> erasures_pb2.Claim:
    """A job under its lease."""
    duration = Duration()
    duration.FromTimedelta(lease)
    return erasures_pb2.Claim(
        erasure=erasure(value, attempts, taken),
        fencing_token=taken.token,
        lease=duration,
        progress_json=taken.progress_json,
    )


def told_state(number: int) -> ErasureState | None:
    """The state a calibrator moves to, or None to stay. Raises MalformedRequest."""
    if number == erasures_pb2.Erasure.STATE_UNSPECIFIED:
        return None
    found = _STATES_FROM_THE_WIRE.get(erasures_pb2.Erasure.State.ValueType(number))
    if found is None:
        raise MalformedRequest(f"there is no state {number}", field="state")
    return found


def question(message: erasures_pb2.AskSitesRequest) -> Question:
    """Raises MalformedRequest."""
    match message.WhichOneof("task"):
        case "evaluate":
            versions = list(message.evaluate.versions)
            return Question(TaskKind.EVALUATE, tuple(versions), {"versions": versions})
        case "audit":
            versions = list(message.audit.versions)
            payload: dict[str, object] = {"versions": versions, "seed": message.audit.seed}
            return Question(TaskKind.AUDIT, tuple(versions), payload)
        case "erase":
            erase = message.erase
            return Question(
                TaskKind.ERASE,
                (erase.version,),
                {
                    "method": erase.method,
                    "parameters_json": erase.parameters_json,
                    "version": erase.version,
                    "seed": erase.seed,
                },
            )
        case _:
            raise MalformedRequest("the task is missing", field="task")


def answer(task: Task) -> erasures_pb2.Answer:
    """A task and its answer, whose fields are named as in the proto."""
    message = erasures_pb2.Answer(task=task_name(task.id), site=site_name(task.site))
    fields = task.answer or {}
    match task.answer_kind:
        case AnswerKind.EVALUATE:
            message.evaluate.CopyFrom(training_pb2.EvaluateAnswer(**fields))  # type: ignore[arg-type]
        case AnswerKind.AUDIT:
            message.audit.CopyFrom(training_pb2.AuditAnswer(**fields))  # type: ignore[arg-type]
        case AnswerKind.ERASE:
            message.erase.CopyFrom(training_pb2.EraseAnswer(**fields))  # type: ignore[arg-type]
        case AnswerKind.EXCLUDE:
            message.exclude.CopyFrom(training_pb2.ExcludeAnswer(**fields))  # type: ignore[arg-type]
        case AnswerKind.INVALIDATE:
            pass  # of no use to the calibrator
        case AnswerKind.FAILURE:
            message.failure.CopyFrom(training_pb2.TaskFailure(**fields))  # type: ignore[arg-type]
        case None:
            pass
    return message


def end(message: erasures_pb2.ConcludeErasureRequest) -> Certified | Failed:
    """Raises MalformedRequest."""
    match message.WhichOneof("end"):
        case "certificate":
            return Certified(message.certificate)
        case "failure":
            return Failed(message.failure)
        case _:
            raise MalformedRequest("a certificate or a failure is due", field="end")


def certificate(value: Certificate) -> certificates_pb2.Certificate:
    """A certificate on the wire."""
    return certificates_pb2.Certificate(
        name=certificate_name(value.erasure),
        erasure=erasure_name(value.erasure),
        content=value.content,
        signed_at=timestamp(value.signed_at),
    )
