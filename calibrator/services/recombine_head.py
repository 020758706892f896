"""The newest head refitted as a weighted sum of what the retained sites contributed.

The change is a sum of multiples of single sites' contributions. Each site's share of it is a patch
of its own, attributed to the site in the ledger: it counts as contributed by that site, so that a
later erasure of the site takes it out again, and no share of a site that is fenced meanwhile
enters. No cap holds: a share is no longer or shorter for the subject's contribution.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from calibrator.domain.case import ModelRef, derived_seed
from calibrator.domain.contributions import Recombination
from calibrator.domain.progress import MethodProgress, SitePatches
from calibrator.ports import Rejected
from calibrator.services.job import Job, Moved, Workshop
from calibrator.services.push_patch import check_epoch, pack, send
from letheon.federation import arithmetic
from letheon.unlearning.method import Offer, PatchAdded, PatchRefused, Recombine


def recombine_head(
    job: Job, now: MethodProgress, step: Recombine, workshop: Workshop, offer: Offer
) -> PatchAdded | PatchRefused | Moved:
    """Makes the patches and notes them, then, called again, sends the next of them.

    A recombination that costs too much accuracy is left out: a method that had the contribution
    subtracted goes on without it. Raises PatchVoid after a later removal or once an erasure names
    one of the sites, BadConfig for parameters that recombination does not take.
    """
    if now.site_patches is not None:
        return _send(job, now, now.site_patches, workshop)
    parts = workshop.coordinator.retained_parts(job.ticket, step.segments)
    if not parts:
        return PatchRefused("no retained site has contributed yet", final=False)
    head, weights = workshop.coordinator.download_head(workshop.directory)
    check_epoch(head, now)
    made = workshop.laboratory().recombine(
        weights,
        parts,
        step.parameters,
        seed=derived_seed(job.erasure.name, "recombine", job.progress.restarts, step.round),
        allowed_drop=step.allowed_drop,
    )
    if isinstance(made, Rejected):
        return PatchRefused(made.reason, final=not offer.subtracts)
    name = f"recombination-{step.round}"
    packed = pack_shares(job, made, workshop, name=name, tries=now.tries, base=head)
    return _moved(job, now.model_copy(update={"site_patches": packed}))


def pack_shares(
    job: Job, made: Recombination, workshop: Workshop, *, name: str, tries: int, base: ModelRef
) -> SitePatches:
    """Writes the payload of each site's share."""
    patches = tuple(
        pack(job, workshop, name=f"{name}/{site}", tries=tries, patch=patch, base=base, site=site)
        for site, patch in made.patches.items()
    )
    return SitePatches(
        patches=patches,
        norm=arithmetic.norm(reduce(np.add, made.patches.values())),
        numbers={
            "accuracy_before": made.accuracy_before,
            "accuracy_after": made.accuracy_after,
            "sites": float(len(patches)),
            **made.numbers,
        },
    )


def _send(
    job: Job, now: MethodProgress, site_patches: SitePatches, workshop: Workshop
) -> PatchAdded | Moved:
    """Sends the next patch; one a step, so that those that arrived are counted whatever follows."""
    if site_patches.sent == len(site_patches.patches):
        return PatchAdded(site_patches.version, 1.0, site_patches.norm, site_patches.numbers)
    version = send(job, site_patches.patches[site_patches.sent], workshop, "calibration")
    if version is None:
        # What arrived is in the head, where the next recombination begins.
        anew = now.model_copy(update={"site_patches": None, "tries": now.tries + 1})
        return _moved(job, anew)
    sent = site_patches.model_copy(update={"sent": site_patches.sent + 1, "version": version})
    after = _moved(job, now.model_copy(update={"site_patches": sent}))
    counted = {"own_patches": job.progress.own_patches + 1}
    return replace(after, progress=after.progress.model_copy(update=counted))


def _moved(job: Job, now: MethodProgress) -> Moved:
    return Moved(job.progress.model_copy(update={"method": now}), "calibrating")
