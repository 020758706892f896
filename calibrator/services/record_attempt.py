"""Records a run of the gate; after a passing one, certifies."""

from __future__ import annotations

from calibrator.domain.case import Erasure, ModelRef, Removal
from calibrator.domain.progress import Judged, Stage
from calibrator.ports import Attempt, Certified, Failed, Recorded
from calibrator.services.job import Ended, Job, Moved, Workshop
from letheon.errors import MalformedRequest
from letheon.proof import certificate
from letheon.unlearning import statement
from letheon.unlearning.gate import FORGETTING, Verdict


def record_attempt(job: Job, workshop: Workshop) -> Moved | Ended:
    """Records the judged attempt: certified, tried again, or out of attempts.

    Raises PatchVoid after a later removal, Corrupt if the ledger's replay differs.
    """
    judged = job.progress.gate.judged
    if judged is None:
        raise MalformedRequest("the stored progress has no judged attempt")
    recorded = workshop.coordinator.record_attempt(
        job.ticket,
        Attempt(
            number=judged.number,
            version=judged.model.version,
            judgement=judged.judgement,
            at=judged.at,
            accepted_since_removal=judged.accepted,
        ),
    )
    if judged.judgement.verdict is Verdict.PASS:
        return Ended(Certified(_certify(job, judged, recorded, workshop)))
    return _next_attempt(job, judged, workshop)


def _next_attempt(job: Job, judged: Judged, workshop: Workshop) -> Moved | Ended:
    reasons = (*job.progress.gate.reasons, judged.judgement.reason)
    if _can_never_pass(job, judged, workshop):
        return Ended(
            Failed(
                f"{job.erasure.method} only suppresses influence and needs a forgetting test that "
                "passed, but no such test sees the subject even in the version from before; ask "
                "for method removal"
            )
        )
    if judged.number >= workshop.plan.gate.max_attempts:
        kinds = "; ".join(dict.fromkeys(reasons))
        return Ended(Failed(f"the gate did not pass in {judged.number} attempts: {kinds}"))
    gate = job.progress.gate.model_copy(
        update={
            "attempts": judged.number,
            "accepted_at_last": judged.accepted,
            "candidate": None,
            "judged": None,
            "reasons": reasons,
        }
    )
    update = {"gate": gate, "stage": Stage.GATE, "stage_since": workshop.clock.now()}
    return Moved(job.progress.model_copy(update=update), "verifying")


def _can_never_pass(job: Job, judged: Judged, workshop: Workshop) -> bool:
    """Whether the positive controls, which depend on the version before only, rule a pass out."""
    return (
        workshop.method(job.erasure.method).offer.suppresses
        and job.progress.gate.before_audit is not None
        and not any(
            test.positive_control_fired
            for test in judged.judgement.tests
            if test.name in FORGETTING
        )
        # An audit that did not arrive this time leaves no trace of its positive control.
        and all(test.numbers for test in judged.judgement.tests if test.name in FORGETTING)
    )


def _certify(job: Job, judged: Judged, recorded: Recorded, workshop: Workshop) -> bytes:
    now = workshop.clock.now()
    text = statement.compose(
        _filing(job.erasure),
        _change(job.progress.require_removal(), judged.model),
        statement.Findings(
            judgement=judged.judgement,
            attempt=judged.number,
            accepted_since_removal=judged.accepted,
            steps=job.progress.steps,
        ),
        workshop.method(job.erasure.method).offer,
        process=recorded.evidence,
        plan_digest=workshop.plan.digest,
        salt=job.progress.salt,
        promoted_at=recorded.erasure.promoted_at or now,
        signed_at=now,
    )
    return certificate.sign(text, workshop.key)


def _filing(erasure: Erasure) -> statement.Filing:
    return statement.Filing(
        erasure=erasure.name,
        request_id=erasure.request_id,
        site=erasure.site,
        legal_basis=erasure.legal_basis,
        level=erasure.level,
        method=erasure.method,
        requested_at=erasure.requested_at,
        fenced_at=erasure.fenced_at,
        deadline=erasure.deadline,
        level_admitted=erasure.level_admitted,
        caveats=erasure.caveats,
        records=erasure.records,
    )


def _change(removal: Removal, promoted: ModelRef) -> statement.Change:
    return statement.Change(
        epoch=removal.epoch,
        version_before=removal.version_before,
        version_after=removal.version_after,
        version_promoted=promoted.version,
        sha256_before=removal.sha256_before,
        sha256_after=removal.sha256_after,
        sha256_promoted=promoted.sha256,
        subtracted=removal.subtracted,
        contribution_norm=removal.contribution_norm,
        head_norm_before=removal.head_norm_before,
        removed_entries=removal.removed_entries,
        voided_entries=removal.voided_entries,
        exchanged=removal.exchanged,
    )
