"""Patches made before the removal, for the head as it will be without the subject.

The subject is fenced, so what it contributed stays as it is, and training goes on meanwhile. The
patches then follow the removal with nothing between. Whatever goes wrong here costs only that:
the method makes them after the removal instead.
"""

from __future__ import annotations

import logging
from functools import reduce

import numpy as np

from calibrator.domain.case import ModelRef, derived_seed
from calibrator.domain.progress import SitePatches
from calibrator.ports import Rejected
from calibrator.services.job import Job, Moved, Workshop
from calibrator.services.recombine_head import pack_shares
from letheon.errors import Corrupt, PatchVoid
from letheon.unlearning.method import Recombine

_LOG = logging.getLogger(__name__)


def prepare_patches(job: Job, step: Recombine, workshop: Workshop) -> Moved:
    """Makes the patches and notes them; notes in any case that it was tried."""
    try:
        made = _recombine(job, step, workshop)
    except (PatchVoid, Corrupt) as error:  # a site was fenced, or payloads compacted, meanwhile
        _LOG.warning("preparation_skipped", extra={"erasure": job.erasure.name, **error.facts})
        made = None
    return Moved(
        job.progress.model_copy(update={"preparation_tried": True, "prepared_patches": made})
    )


def _recombine(job: Job, step: Recombine, workshop: Workshop) -> SitePatches | None:
    parts = workshop.coordinator.retained_parts(job.ticket, step.segments, with_subject=True)
    retained = [part for part in parts if part.site != job.erasure.site]
    if not retained:
        return None
    head, weights = workshop.coordinator.download_head(workshop.directory)
    subject = [part.values for part in parts if part.site == job.erasure.site]
    without = reduce(np.subtract, subject, weights)
    made = workshop.laboratory().recombine(
        without,
        retained,
        step.parameters,
        seed=derived_seed(job.erasure.name, "prepare"),
        allowed_drop=step.allowed_drop,
    )
    if isinstance(made, Rejected):
        return None
    return pack_shares(job, made, workshop, name="prepared", tries=0, base=head)


def rebased(prepared: SitePatches, snapshot: ModelRef) -> SitePatches:
    """The patches as those of the head that the removal left."""
    base = {"epoch": snapshot.epoch, "base_version": snapshot.version}
    patches = tuple(patch.model_copy(update=base) for patch in prepared.patches)
    return prepared.model_copy(update={"patches": patches})
