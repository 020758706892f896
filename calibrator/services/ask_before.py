"""Evidence about the version from before the erasure: what utility and controls compare with.

It is asked for at the removal, because another erasure that is certified meanwhile may destroy
that version before this one's gate runs first.
"""

from __future__ import annotations

from calibrator.domain.case import derived_seed
from calibrator.ports import AuditAnswered, EvaluateAnswered
from calibrator.services.job import Job, Workshop
from letheon.names import erasure_id
from letheon.unlearning.evidence.forgetting import ForgetStatistic


def ask_before(job: Job, version: int, workshop: Workshop) -> None:
    """Asks retained sites and the subject about `version`; nobody waits for the answers."""
    coordinator = workshop.coordinator
    coordinator.ask_evaluate(job.ticket, _name(job, "evaluate"), (version,))
    coordinator.ask_audit(job.ticket, _name(job, "audit"), (version,), bootstrap_seed(job))


def bootstrap_seed(job: Job) -> int:
    """One for all audits of an erasure: the same resamples of patients, so that they compare."""
    return derived_seed(job.erasure.name, "bootstrap")


def accuracy_before(job: Job, workshop: Workshop) -> dict[str, float]:
    """Accuracy of the version before at each site that has answered so far."""
    version = job.progress.require_removal().version_before
    answers = workshop.coordinator.answers(job.ticket, _name(job, "evaluate"))
    return {
        answer.site: utility.accuracy
        for answer in answers
        if isinstance(answer.outcome, EvaluateAnswered)
        for utility in answer.outcome.utilities
        if utility.version == version
    }


def audit_before(job: Job, workshop: Workshop) -> ForgetStatistic | None:
    """The positive control, if the subject has answered so far."""
    version = job.progress.require_removal().version_before
    for answer in workshop.coordinator.answers(job.ticket, _name(job, "audit")):
        if isinstance(answer.outcome, AuditAnswered):
            return answer.outcome.statistics.get(version)
    return None


def _name(job: Job, kind: str) -> str:
    return f"{erasure_id(job.erasure.name)}-before-{kind}"
