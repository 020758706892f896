"""Records of a site that stays: what their removal is, an exchange or the site's readmission.

The site recomputes its deltas without the records and sends what that changes; the patch is added
whole. Where that cannot be, the whole contribution of the site is removed and the site begins
again at zero. Each step is stored before the next, so that another calibrator goes on from it.
"""

from __future__ import annotations

from datetime import timedelta

from calibrator.domain.case import derived_seed
from calibrator.domain.progress import Asked, ExchangeProgress, PendingPatch
from calibrator.ports import Answer, CannotAnswer, ExcludeAnswered, Failed, Rejected
from calibrator.services.job import Ended, Job, Moved, Waiting, Workshop
from calibrator.services.push_patch import pack, send
from letheon.errors import (
    MalformedUpdate,
    MethodRefused,
    PatchVoid,
    Refused,
    SiteFenced,
    UnknownModelVersion,
)
from letheon.federation import arithmetic
from letheon.federation.exchange import ALLOWED_DROP
from letheon.federation.parameters import Vector
from letheon.names import erasure_id
from letheon.unlearning.method import TargetAnswered

PATIENCE = timedelta(days=1)  # with the site's agent, for its confirmation and for its answer


def exchange_records(job: Job, workshop: Workshop) -> Moved | Waiting | Ended | None:
    """One step; None once the removal can be called: it is then the exchange, or readmits.

    Raises ExchangeRunning while the site recomputes for another erasure, SiteFenced once the whole
    site is to go.
    """
    now = job.progress.exchange
    if now is None:
        return _noted(job, ExchangeProgress(since=workshop.clock.now()))
    if now.readmitted_because or now.is_added:
        return None
    if now.pending is not None:
        return _push(job, now, now.pending, workshop)
    try:
        return _confirmed(job, now, workshop) or _recomputed(job, now, workshop)
    except (SiteFenced, MethodRefused):
        raise
    except (PatchVoid, UnknownModelVersion):
        return _noted(job, now.asked_again())  # the head it was asked about is gone
    except Refused as error:
        return _readmit(job, now, error.message)


def _confirmed(
    job: Job, now: ExchangeProgress, workshop: Workshop
) -> Moved | Waiting | Ended | None:
    """None once the agent uses the records no longer."""
    answers = workshop.coordinator.answers(job.ticket, f"{erasure_id(job.erasure.name)}-exclude")
    for answer in answers:
        if isinstance(answer.outcome, ExcludeAnswered):
            if answer.outcome.found:
                return None
            return Ended(
                Failed(
                    f"{job.erasure.site} holds no records under the reference of this request: "
                    "nothing of them is in the model"
                )
            )
    if workshop.clock.now() - now.since < PATIENCE:
        return Waiting()
    return _readmit(job, now, f"its agent did not confirm the exclusion within {PATIENCE.days} day")


def _recomputed(job: Job, now: ExchangeProgress, workshop: Workshop) -> Moved | Waiting:
    if now.asked is None:
        head = workshop.coordinator.pin_head()
        name = f"{erasure_id(job.erasure.name)}-exchange-{now.restarts}"
        asked = Asked(request_id=name, at=workshop.clock.now())
        return _noted(job, now.model_copy(update={"asked": asked, "version": head.version}))
    workshop.coordinator.ask_erase(
        job.ticket,
        now.asked.request_id,
        method=job.erasure.method,
        parameters={},
        version=now.version,
        seed=derived_seed(job.erasure.name, "exchange", now.restarts),
    )
    answers = workshop.coordinator.answers(job.ticket, now.asked.request_id)
    match _first(answers):
        case TargetAnswered() as answered:
            return _made(job, now, answered, workshop)
        case CannotAnswer(reason):
            return _readmit(job, now, f"its agent says: {reason}")
    if workshop.clock.now() - now.asked.at < PATIENCE:
        return Waiting()
    return _readmit(job, now, f"its agent did not answer within {PATIENCE.days} day")


def _first(answers: tuple[Answer, ...]) -> object:
    return answers[0].outcome if answers else None


def _made(job: Job, now: ExchangeProgress, answered: TargetAnswered, workshop: Workshop) -> Moved:
    """The patch, checked and packed. Part of a swap leaves influence: it is never scaled."""
    patch = workshop.coordinator.download_answer(job.ticket, answered.update_id, workshop.directory)
    head, weights = workshop.coordinator.download_head(workshop.directory)
    numbers = _tried(weights, patch, workshop)
    if isinstance(numbers, Rejected):
        return _readmit(job, now, numbers.reason)
    name = f"exchange-{now.restarts}"
    pending = pack(
        job, workshop, name=name, tries=now.tries, patch=patch, base=head, site=job.erasure.site
    ).model_copy(update={"numbers": numbers})
    return _noted(job, now.model_copy(update={"pending": pending}))


def _tried(head: Vector, patch: Vector, workshop: Workshop) -> dict[str, float] | Rejected:
    """What the patch does on the audit images; without images the gate alone measures utility."""
    if not workshop.has_images or arithmetic.norm(patch) == 0.0:
        return {}
    trial = workshop.laboratory().try_patch(head, patch, (1.0,), ALLOWED_DROP)
    if isinstance(trial, Rejected):
        return trial
    return {
        "accuracy_before": trial.accuracy_before,
        "accuracy_after": trial.accuracy_after,
        **trial.numbers,
    }


def _push(job: Job, now: ExchangeProgress, pending: PendingPatch, workshop: Workshop) -> Moved:
    try:
        version = send(job, pending, workshop, "patch")
    except PatchVoid:
        return _noted(job, now.asked_again())  # a later removal: the deltas have other bases
    except MalformedUpdate as error:
        return _readmit(job, now, error.message)
    if version is None:
        return _noted(job, now.model_copy(update={"pending": None, "tries": now.tries + 1}))
    return _noted(job, now.model_copy(update={"is_added": True}))


def _readmit(job: Job, now: ExchangeProgress, reason: str) -> Moved:
    return _noted(job, now.model_copy(update={"readmitted_because": reason, "pending": None}))


def _noted(job: Job, now: ExchangeProgress) -> Moved:
    return Moved(job.progress.model_copy(update={"exchange": now}))


def exchange_fact(now: ExchangeProgress, version: int, deltas: int) -> dict[str, object]:
    """What the certificate says of the removal: which of the two it was, and what came of it."""
    if now.readmitted_because:
        return {
            "step": "Readmission",
            "outcome": "ContributionRemoved",
            "version": version,
            "why_not_exchanged": now.readmitted_because,
        }
    pending = now.pending
    return {
        "step": "Exchange",
        "outcome": "PatchAdded",
        "version": version,
        "deltas": deltas,
        "norm": 0.0 if pending is None else pending.norm,
        "numbers": {} if pending is None else dict(pending.numbers),
    }
