"""One round of invariance calibration, from the newest head, added as a patch."""

from __future__ import annotations

from dataclasses import replace

from calibrator.domain.case import ModelRef, derived_seed
from calibrator.domain.progress import MethodProgress
from calibrator.ports import Rejected, Trial
from calibrator.services.job import Job, Moved, Workshop
from calibrator.services.push_patch import cap_norm, check_epoch, deliver
from letheon.unlearning.method import (
    CALIBRATION_IMAGES,
    Calibrate,
    Offer,
    PatchAdded,
    PatchRefused,
)


def calibrate_head(
    job: Job, now: MethodProgress, step: Calibrate, workshop: Workshop, offer: Offer
) -> PatchAdded | PatchRefused | Moved:
    """Calibrates, caps and checks the change, and adds it.

    A round that costs too much accuracy is skipped. Without calibration images the round is
    skipped too, unless the method cannot do without. Raises PatchVoid after a later removal.
    """

    def make() -> tuple[ModelRef, Trial | Rejected]:
        head, weights = workshop.coordinator.download_head(workshop.directory)
        check_epoch(head, now)
        trial = workshop.laboratory().calibrate(
            weights,
            step.parameters,
            seed=derived_seed(job.erasure.name, "calibrate", job.progress.restarts, step.round),
            cap_norm=cap_norm(job, workshop),
            allowed_drop=step.allowed_drop,
        )
        return head, trial

    name = f"calibration-{step.round}"
    outcome = deliver(job, now, workshop, name=name, kind="calibration", make=make)
    if isinstance(outcome, PatchRefused):
        return replace(outcome, final=outcome.final and CALIBRATION_IMAGES in offer.needs)
    return outcome
