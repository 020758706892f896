"""A patch computed beside the coordinator, from the newest head, and added to it."""

from __future__ import annotations

from dataclasses import replace

from calibrator.domain.case import ModelRef, derived_seed
from calibrator.domain.progress import MethodProgress
from calibrator.ports import Rejected, Trial
from calibrator.services.job import Job, Moved, Workshop
from calibrator.services.push_patch import check_epoch, deliver
from letheon.unlearning.method import ComputePatch, Offer, PatchAdded, PatchRefused


def compute_patch(
    job: Job, now: MethodProgress, step: ComputePatch, workshop: Workshop, offer: Offer
) -> PatchAdded | PatchRefused | Moved:
    """Computes the patch by its rule, checks it, and adds it.

    If it is refused, a method that had the contribution subtracted goes on without it; for any
    other the patch was all there is. Raises PatchVoid after a later removal, BadConfig for an
    unknown rule or parameters it does not take.
    """
    # Steps done so far: a method may ask for a rule twice, and a repeat must find the same name.
    name = f"computed-{len(job.progress.steps)}-{step.rule}"

    def make() -> tuple[ModelRef, Trial | Rejected]:
        head, weights = workshop.coordinator.download_head(workshop.directory)
        check_epoch(head, now)
        trial = workshop.laboratory().compute_patch(
            weights,
            step.rule,
            step.parameters,
            seed=derived_seed(job.erasure.name, "compute", job.progress.restarts, name),
            allowed_drop=step.allowed_drop,
        )
        return head, trial

    # Of kind calibration: the coordinator caps patches that a site computed, and this is none.
    outcome = deliver(job, now, workshop, name=name, kind="calibration", make=make)
    if isinstance(outcome, PatchRefused):
        return replace(outcome, final=not offer.subtracts)
    return outcome
