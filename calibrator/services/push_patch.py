"""Adds patches to the head: made once, sent under one name until they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from calibrator.domain.case import ModelRef, derived_uuid
from calibrator.domain.progress import MethodProgress, PendingPatch
from calibrator.ports import PatchKind, PatchUpload, Rejected, Trial
from calibrator.services.job import Job, Moved, Workshop
from letheon.errors import PatchVoid, UpdateAltered
from letheon.federation import arithmetic, encoding
from letheon.federation.parameters import Vector
from letheon.unlearning.method import PatchAdded, PatchRefused, PushPatch

Make = Callable[[], tuple[ModelRef, Trial | Rejected]]  # and the version it was made from


def push_patch(
    job: Job, now: MethodProgress, step: PushPatch, workshop: Workshop
) -> PatchAdded | PatchRefused | Moved:
    """Caps the target's patch, scales it so that utility holds, and adds it to the head.

    Raises PatchVoid if a later removal happened since the snapshot.
    """

    def make() -> tuple[ModelRef, Trial | Rejected]:
        patch = workshop.coordinator.download_answer(job.ticket, step.source, workshop.directory)
        cap(patch, cap_norm(job, workshop))
        head, weights = workshop.coordinator.download_head(workshop.directory)
        check_epoch(head, now)
        laboratory = workshop.laboratory()
        trial = laboratory.try_patch(weights, patch, step.scales, step.allowed_drop)
        return now.snapshot, trial

    return deliver(job, now, workshop, name=step.update_id_hint, kind="patch", make=make)


def cap_norm(job: Job, workshop: Workshop) -> float:
    """The longest patch allowed, L2: the plan's share of the contribution's norm."""
    return workshop.plan.erasure.patch_cap_ratio * job.progress.require_removal().contribution_norm


def cap(patch: Vector, limit: float) -> float:
    """Shortens `patch` in place to `limit`; returns the factor."""
    length = arithmetic.norm(patch)
    factor = min(1.0, limit / length) if length > 0 else 1.0
    if factor < 1.0:
        patch *= arithmetic.as_coefficient(factor)
    return factor


def check_epoch(head: ModelRef, now: MethodProgress) -> None:
    """Raises PatchVoid if the head is of a later epoch than the snapshot."""
    if head.epoch != now.snapshot.epoch:
        raise PatchVoid(
            f"the head is of epoch {head.epoch}, the snapshot of {now.snapshot.epoch}",
            epoch=head.epoch,
        )


def deliver(
    job: Job,
    now: MethodProgress,
    workshop: Workshop,
    *,
    name: str,
    kind: PatchKind,
    make: Make,
) -> PatchAdded | PatchRefused | Moved:
    """Makes a patch and notes its name and digest, then, called again, sends it.

    The note comes before the first byte is sent, so that whoever goes on knows what arrived. A
    name is never used for other bytes: if the payload is lost, the next try has another name.
    """
    if now.pending is not None:
        return _push(job, now, now.pending, workshop, kind)
    origin, trial = make()
    if isinstance(trial, Rejected):
        return PatchRefused(trial.reason, final=kind == "patch" or trial.unequipped)
    numbers = {
        "accuracy_before": trial.accuracy_before,
        "accuracy_after": trial.accuracy_after,
        **trial.numbers,
    }
    base = ModelRef(origin.version, now.snapshot.epoch, origin.sha256)
    pending = pack(job, workshop, name=name, tries=now.tries, patch=trial.patch, base=base)
    pending = pending.model_copy(update={"scale": trial.scale, "numbers": numbers})
    return _noted(job, now.model_copy(update={"pending": pending}))


def pack(
    job: Job,
    workshop: Workshop,
    *,
    name: str,
    tries: int,
    patch: Vector,
    base: ModelRef,
    site: str = "",
) -> PendingPatch:
    """Writes the payload of a patch [d] of `base`.

    `site`: whose contribution it is made of, if of one.
    """
    payload = encoding.encode(patch, workshop.plan.patch_encoding)
    update_id = derived_uuid(job.erasure.name, job.progress.restarts, name, tries)
    _path(workshop, update_id).write_bytes(payload)
    return PendingPatch(
        update_id=update_id,
        sha256=hashlib.sha256(payload).hexdigest(),
        epoch=base.epoch,
        base_version=base.version,
        scale=1.0,
        norm=arithmetic.norm(patch),
        numbers={},
        site=site,
    )


def _push(
    job: Job, now: MethodProgress, pending: PendingPatch, workshop: Workshop, kind: PatchKind
) -> PatchAdded | Moved:
    version = send(job, pending, workshop, kind)
    if version is None:
        return _make_anew(job, now)
    return PatchAdded(version, pending.scale, pending.norm, pending.numbers)


def send(job: Job, pending: PendingPatch, workshop: Workshop, kind: PatchKind) -> int | None:
    """The version after the patch, sent unless it had arrived; None if its payload is lost."""
    path = _path(workshop, pending.update_id)
    version = workshop.coordinator.merged_version(pending.update_id)
    if version is None:
        payload = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(payload).hexdigest() != pending.sha256:
            return None
        upload = PatchUpload(
            update_id=pending.update_id,
            path=path,
            size_bytes=len(payload),
            sha256=pending.sha256,
            kind=kind,
            epoch=pending.epoch,
            base_version=pending.base_version,
            site=pending.site,
        )
        try:
            version = workshop.coordinator.push(job.ticket, upload)
        except UpdateAltered:
            return None
    path.unlink(missing_ok=True)
    return version


def _make_anew(job: Job, now: MethodProgress) -> Moved:
    return _noted(job, now.model_copy(update={"pending": None, "tries": now.tries + 1}))


def _noted(job: Job, now: MethodProgress) -> Moved:
    return Moved(job.progress.model_copy(update={"method": now}), "calibrating")


def _path(workshop: Workshop, update_id: str) -> Path:
    return workshop.directory / f"{update_id}.patch"
