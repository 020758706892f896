"""The calibrator's own images: what it calibrates on and what it checks with never overlap."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from letheon.errors import BadData
from letheon.federation.plan import Plan
from letheon.imaging.records import Records
from letheon.imaging.tasks.task import build_task


@dataclass(frozen=True)
class Images:
    """Both sets; None where none is configured."""

    calibration: Records | None
    audit: Records | None


def check_disjoint(images: Images) -> None:
    """Raises BadData if a record is in both sets, by its id, its patient or its pixels.

    Evidence gathered on images that were calibrated on says nothing.
    """
    calibration, audit = images.calibration, images.audit
    if calibration is None or audit is None:
        return
    _refuse("record ids", set(calibration.record_ids) & set(audit.record_ids))
    _refuse("patients", set(calibration.patients or ()) & set(audit.patients or ()))
    _refuse("pixels", _fingerprints(calibration) & _fingerprints(audit))


def check_images(images: Images, plan: Plan) -> None:
    """Raises BadData unless both sets fit the plan and are disjoint."""
    task = build_task(plan.task.plugin, plan.task.arguments)
    for records in (images.calibration, images.audit):
        if records is not None:
            task.check_fit(records, shape=plan.image.shape, classes=plan.classes)
    check_disjoint(images)


def _refuse(what: str, shared: set[str]) -> None:
    if shared:
        raise BadData(
            f"calibration and audit images share {what}: {len(shared)} of them are in both sets",
            shared=len(shared),
        )


def _fingerprints(records: Records) -> set[str]:
    return {
        hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
        for image in records.images
    }
