"""The removal: epoch + 1, and the subject's contribution leaves the head."""

from __future__ import annotations

from calibrator.domain.progress import Stage
from calibrator.ports import Failed
from calibrator.services.ask_before import ask_before
from calibrator.services.exchange_records import exchange_fact, exchange_records
from calibrator.services.job import Ended, Job, Moved, Waiting, Workshop
from calibrator.services.prepare_patches import prepare_patches
from letheon.errors import MethodRefused
from letheon.unlearning.method import CALIBRATION_IMAGES, Preparing


def remove_contribution(job: Job, workshop: Workshop) -> Moved | Waiting | Ended:
    """Has the coordinator remove, then asks about the version from before.

    A method that prepares patches for the removal makes them first, in a step of its own. Records
    of a site that stays are exchanged, or their site is readmitted (`exchange_records`).
    Ends with a failure, once removed, where nobody is left to repair or test the model: waiting
    for a gate that cannot run would never end. A repeat gives the recorded removal. Raises
    MethodRefused, before anything is changed, for a method that needs images this calibrator was
    not given.
    """
    _check_images(job, workshop)
    method = workshop.method(job.erasure.method)
    if isinstance(method, Preparing) and not job.progress.preparation_tried:
        return prepare_patches(job, method.preparation(), workshop)
    if job.erasure.records:
        under_way = exchange_records(job, workshop)
        if under_way is not None:
            return under_way
    removal = workshop.coordinator.remove(job.ticket)
    if job.erasure.uncertifiable:
        return Ended(
            Failed(
                f"the contribution of {job.erasure.site} was removed in version "
                f"{removal.version_after}, but {job.erasure.uncertifiable}"
            )
        )
    ask_before(job, removal.version_before, workshop)
    steps = job.progress.steps
    if job.progress.exchange is not None:
        fact = exchange_fact(job.progress.exchange, removal.version_after, removal.removed_entries)
        steps = (*steps, fact)
    progress = job.progress.model_copy(
        update={
            "removal": removal,
            "steps": steps,
            "stage": Stage.METHOD,
            "stage_since": workshop.clock.now(),
        }
    )
    return Moved(progress)


def _check_images(job: Job, workshop: Workshop) -> None:
    method = job.erasure.method
    if CALIBRATION_IMAGES in workshop.method(method).offer.needs and not workshop.has_images:
        raise MethodRefused(
            f"method {method} needs calibration and audit images, and this calibrator has not both:"
            " configure [calibration] and [audit], or ask for method removal",
            method=method,
        )
