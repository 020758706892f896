"""Has the subject's agent do its part of a method."""

from __future__ import annotations

from datetime import timedelta

from calibrator.domain.case import derived_seed
from calibrator.domain.progress import Asked, MethodProgress
from calibrator.ports import CannotAnswer
from calibrator.services.job import Job, Moved, Waiting, Workshop
from letheon.names import erasure_id
from letheon.unlearning.method import AskTarget, TargetAnswered, TargetSilent

_AGENTS_KNOW = "ascent"  # the one rule of a target's part


def ask_target(
    job: Job, now: MethodProgress, step: AskTarget, workshop: Workshop
) -> TargetAnswered | TargetSilent | Moved | Waiting:
    """Asks, then waits for the answer or the end of the step's time, counted from the asking."""
    if step.rule != _AGENTS_KNOW:
        return TargetSilent(_sentence(job, f"agents compute no {step.rule}"))
    restarts = job.progress.restarts
    if now.asked is None:
        name = f"{erasure_id(job.erasure.name)}-erase-{restarts}-{step.request_id}"
        asked = Asked(request_id=name, at=workshop.clock.now())
        waiting = now.model_copy(update={"asked": asked})
        return Moved(job.progress.model_copy(update={"method": waiting}), "calibrating")
    workshop.coordinator.ask_erase(
        job.ticket,
        now.asked.request_id,
        method=job.erasure.method,
        parameters=step.parameters,
        version=step.version,
        seed=derived_seed(job.erasure.name, "erase", restarts, step.request_id),
    )
    answers = workshop.coordinator.answers(job.ticket, now.asked.request_id)
    if not answers:
        return TargetSilent(_sentence(job, "its agent cannot be asked"))
    match answers[0].outcome:
        case TargetAnswered() as answered:
            return answered
        case CannotAnswer(reason):
            return TargetSilent(_sentence(job, f"its agent says: {reason}"))
    if workshop.clock.now() - now.asked.at > timedelta(seconds=step.timeout_seconds):
        waited = f"its agent did not answer within {step.timeout_seconds:g} seconds"
        return TargetSilent(_sentence(job, waited))
    return Waiting()


def _sentence(job: Job, what: str) -> str:
    return (
        f"method {job.erasure.method} needs the subject's agent, and {what}; "
        "ask for method removal, which needs no cooperation"
    )
