"""Gathers evidence about a candidate version and judges it.

A straggler does not hold the gate up: once half of the retained sites and the audit have answered,
the rest has a grace to do so, and the test of utility names who was not waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from calibrator.domain.case import ModelRef
from calibrator.domain.progress import Asked, Candidate, Judged, Progress, Stage
from calibrator.ports import Answer, AuditAnswered, CannotAnswer, EvaluateAnswered
from calibrator.services.ask_before import accuracy_before, audit_before, bootstrap_seed
from calibrator.services.job import Job, Moved, Waiting, Workshop
from letheon.errors import PatchVoid, UnknownModelVersion
from letheon.names import erasure_id
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.gate import Rules, SiteUtility, judge


def run_gate(job: Job, workshop: Workshop) -> Moved | Waiting:
    """Chooses a candidate once enough retained deltas arrived, asks sites, waits, judges.

    Raises PatchVoid after a later removal.
    """
    candidate = job.progress.gate.candidate
    if candidate is None:
        return _choose(job, workshop)
    try:
        _ask(job, candidate, workshop)
    except UnknownModelVersion:
        # Its file was dropped before the question pinned it, as after a long outage.
        gate = job.progress.gate.model_copy(update={"candidate": None})
        return Moved(job.progress.model_copy(update={"gate": gate}))
    evaluations = workshop.coordinator.answers(job.ticket, candidate.evaluate.request_id)
    audits = workshop.coordinator.answers(job.ticket, candidate.audit.request_id)
    settings, now = workshop.plan.gate, workshop.clock.now()
    complete = all(answer.outcome is not None for answer in (*evaluations, *audits))
    timed_out = now - candidate.evaluate.at >= timedelta(seconds=settings.answer_timeout_seconds)
    if complete or timed_out:
        return _judge(job, candidate, evaluations, audits, workshop)
    if not _enough(evaluations, audits):
        return Waiting()
    if candidate.enough_at is None:
        return _note_enough(job, candidate, workshop)
    if now - candidate.enough_at < timedelta(seconds=settings.straggler_grace_seconds):
        return Waiting()
    return _judge(job, candidate, evaluations, audits, workshop)


def _enough(evaluations: Sequence[Answer], audits: Sequence[Answer]) -> bool:
    """Whether half of the retained sites that were asked, and the subject if asked, answered."""
    answered = sum(answer.outcome is not None for answer in evaluations)
    audited = all(answer.outcome is not None for answer in audits)
    return audited and answered > 0 and 2 * answered >= len(evaluations)


def _note_enough(job: Job, candidate: Candidate, workshop: Workshop) -> Moved:
    """The grace begins; stored, so that another calibrator does not begin it anew."""
    noted = candidate.model_copy(update={"enough_at": workshop.clock.now()})
    gate = job.progress.gate.model_copy(update={"candidate": noted})
    return Moved(job.progress.model_copy(update={"gate": gate}))


def _choose(job: Job, workshop: Workshop) -> Moved | Waiting:
    progress = job.progress
    due = progress.gate.accepted_at_last + workshop.plan.gate.every
    if progress.accepted_since_removal(workshop.coordinator.head_version()) < due:
        return Waiting()
    head = workshop.coordinator.pin_head()
    _check_epoch(progress, head)
    number = progress.gate.questions + 1
    prefix = f"{erasure_id(job.erasure.name)}-gate-{number}"
    now = workshop.clock.now()
    accuracies = {**accuracy_before(job, workshop), **progress.gate.before}
    control = progress.gate.before_audit or audit_before(job, workshop)
    before = (progress.require_removal().version_before,)
    candidate = Candidate(
        model=head,
        accepted=progress.accepted_since_removal(head.version),
        evaluated=(head.version,) if accuracies else (*before, head.version),
        audited=(head.version,) if control else (*before, head.version),
        evaluate=Asked(request_id=f"{prefix}-evaluate", at=now),
        audit=Asked(request_id=f"{prefix}-audit", at=now),
    )
    gate = progress.gate.model_copy(
        update={
            "candidate": candidate,
            "questions": number,
            "before": accuracies,
            "before_audit": control,
        }
    )
    return Moved(progress.model_copy(update={"gate": gate}), "verifying")


def _check_epoch(progress: Progress, head: ModelRef) -> None:
    if progress.method is not None and head.epoch != progress.method.snapshot.epoch:
        raise PatchVoid(f"the head is of epoch {head.epoch} by now", epoch=head.epoch)


def _ask(job: Job, candidate: Candidate, workshop: Workshop) -> None:
    coordinator, ticket = workshop.coordinator, job.ticket
    coordinator.ask_evaluate(ticket, candidate.evaluate.request_id, candidate.evaluated)
    coordinator.ask_audit(
        ticket, candidate.audit.request_id, candidate.audited, bootstrap_seed(job)
    )


def _judge(
    job: Job,
    candidate: Candidate,
    evaluations: Sequence[Answer],
    audits: Sequence[Answer],
    workshop: Workshop,
) -> Moved:
    progress, settings = job.progress, workshop.plan.gate
    version_before = progress.require_removal().version_before
    # A site slow to answer about the version before may have done so by now.
    accuracies = {**accuracy_before(job, workshop), **progress.gate.before}
    sites = _utilities(evaluations, version_before, candidate.model.version, accuracies)
    control = progress.gate.before_audit or _statistic(audits, version_before)
    judgement = judge(
        sites,
        control,
        _statistic(audits, candidate.model.version),
        Rules(settings.utility_margin, settings.worst_site_margin, settings.forget_margin),
        workshop.method(job.erasure.method).offer,
        late=[answer.site for answer in evaluations if answer.outcome is None],
        no_audit=_refusal(audits),
    )
    now = workshop.clock.now()
    judged = Judged(
        number=progress.gate.attempts + 1,
        model=candidate.model,
        accepted=candidate.accepted,
        at=now,
        judgement=judgement,
    )
    gate = progress.gate.model_copy(
        update={"before": accuracies, "before_audit": control, "judged": judged}
    )
    update = {"gate": gate, "stage": Stage.RECORD, "stage_since": now}
    return Moved(progress.model_copy(update=update))


def _utilities(
    answers: Sequence[Answer], before: int, candidate: int, known: dict[str, float]
) -> list[SiteUtility]:
    """Sites with both accuracies; adds what is new about the version before to `known`."""
    sites = []
    for answer in answers:
        if not isinstance(answer.outcome, EvaluateAnswered):
            continue
        by_version = {utility.version: utility for utility in answer.outcome.utilities}
        if before in by_version:
            known.setdefault(answer.site, by_version[before].accuracy)
        if candidate in by_version and answer.site in known:
            now = by_version[candidate]
            sites.append(SiteUtility(answer.site, now.records, known[answer.site], now.accuracy))
    return sites


def _refusal(audits: Sequence[Answer]) -> str:
    """What the subject's agent says of why it did not audit, a sentence, or nothing."""
    for answer in audits:
        if isinstance(answer.outcome, CannotAnswer):
            return f"the subject's agent did not audit: {answer.outcome.reason}"
    return ""


def _statistic(answers: Sequence[Answer], version: int) -> ForgetStatistic | None:
    for answer in answers:
        if isinstance(answer.outcome, AuditAnswered):
            return answer.outcome.statistics.get(version)
    return None
