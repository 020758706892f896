"""Destroys what holds a subject: marked in the promoting transaction, deleted after it.

A mark says what must go and by which erasure; deleting is idempotent and done again at the start
of the process, so that a crash between the two leaves nothing behind.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from coordinator.domain.erasure import Erasure, ErasureState
from coordinator.domain.model import Checkpoint, Contribution, Destroyed, ModelFile
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.prove_ledger import Survey
from letheon.errors import PatchVoid
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Versions:
    """Versions first..last hold the subject; none if last < first."""

    first: int
    last: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.first <= version <= self.last


@dataclass(frozen=True)
class Counts:
    """What was marked, by kind."""

    payloads: int  # deltas and patches
    answers: int  # payloads of erase answers
    contributions: int
    model_files: int
    checkpoints: int
    uploads: int  # that had not come to an end


NO_VERSIONS = Versions(0, -1)


def tainted_versions(uow: UnitOfWork, erasure: Erasure, candidate: int) -> Versions:
    """The versions that hold the subject, before `candidate`."""
    removal = erasure.removal
    if removal is None:
        raise PatchVoid(f"erasures/{erasure.id} has had no removal", erasure=erasure.id)
    first = uow.sites.get(erasure.site).first_version
    if first is None:
        return NO_VERSIONS
    # What only suppresses leaves the contribution in every version up to the one that passed.
    return Versions(first, removal.version_before if removal.subtracted else candidate - 1)


def mark(
    uow: UnitOfWork,
    erasure: Erasure,
    survey: Survey,
    versions: Versions,
    *,
    anchor: int,
    now: datetime,
) -> Counts:
    """Marks everything that holds the subject; inside the promoting transaction."""
    if versions != NO_VERSIONS:
        uow.destroyed.add_versions(Destroyed(versions.first, versions.last, erasure.id, now))
    # A payload that a retained site sent too, bit for bit, is that site's as well.
    answers = {receipt.sha256 for receipt in uow.receipts.stored(site=erasure.site)}
    answers -= survey.foreign
    payloads = survey.own - survey.foreign
    contributions = _contributions(uow, erasure)
    for sha256 in sorted(answers | payloads | contributions):
        uow.destroyed.add_payload(sha256, erasure.id, now)
    uow.contributions.save(Contribution(erasure.site, anchor, None, 0))
    uploads = [upload for upload in uow.uploads.all() if upload.site == erasure.site]
    for upload in uploads:
        uow.uploads.remove(upload.update_id)
    for version, reasons in uow.models.pins().items():
        for reason in reasons if version in versions else ():
            uow.models.unpin(reason, version)
    return Counts(
        payloads=len(payloads),
        answers=len(answers),
        contributions=len(contributions),
        model_files=len(_files(uow, versions)),
        checkpoints=len(_checkpoints(uow, versions)),
        uploads=len(uploads),
    )


def destroy_marked(erasure: Erasure, context: ErasureContext) -> None:
    """Deletes what the erasure marked. Files first, then the rows that name them."""
    reach("destroy.marked")
    # Listed before the rows are read: an upload that begins has its row before its file.
    staged = set(context.staging.all())
    with context.store.read() as uow:
        marked = uow.destroyed.payloads(erasure.id)
        gone = [d for d in uow.destroyed.versions() if d.erasure == erasure.id]
        known_uploads = {upload.update_id for upload in uow.uploads.all()}
        shared = _used_contributions(uow)
    for sha256 in marked:
        context.blobs.payloads.destroy(sha256)
        if sha256 not in shared:
            context.blobs.contributions.destroy(sha256)
    for update_id in staged - known_uploads:
        if not context.staging.is_open(update_id):
            context.staging.discard(update_id)
    for part in gone:
        _destroy_versions(Versions(part.first_version, part.last_version), context)
    _log.info("subject_destroyed", extra={"erasure": erasure.id, "payloads": len(marked)})


def finish_destructions(context: ErasureContext) -> list[str]:
    """At the start: what a crash left undone. Answers the erasures."""
    with context.store.read() as uow:
        promoted = [
            erasure
            for erasure in uow.erasures.all()
            if erasure.promoted_at is not None and erasure.state is not ErasureState.CERTIFIED
        ]
    for erasure in promoted:
        destroy_marked(erasure, context)
    _sweep_derived(context)
    return [erasure.id for erasure in promoted]


def _sweep_derived(context: ErasureContext) -> None:
    """Destroys derived files that no row names: a crash before a commit leaves such.

    Only at the start: later, a file without a row may be one whose row is about to be written.
    """
    with context.store.read() as uow:
        checkpoints = uow.checkpoints.all()
        contributions = _used_contributions(uow)
        for checkpoint in checkpoints:
            if checkpoint.is_anchor:
                contributions |= set(_kept_by(uow, checkpoint).values())
        for erasure in uow.erasures.open():
            contributions |= _contributions(uow, erasure)
        models = {file.sha256 for file in uow.models.newest()}
    named = {checkpoint.sha256 for checkpoint in checkpoints}
    areas = (
        (context.blobs.checkpoints, named),
        (context.blobs.contributions, contributions),
        (context.blobs.models, models),
    )
    for area, used in areas:
        for sha256 in set(area.all()) - used:
            area.destroy(sha256)


def _contributions(uow: UnitOfWork, erasure: Erasure) -> set[str]:
    """Digests of stored sums of the subject: its own row, its removal, what anchors kept."""
    found: set[str | None] = set()
    row = uow.contributions.find(erasure.site)
    found.add(row.sha256 if row else None)
    if erasure.removal is not None:
        found.add(uow.entries.get(erasure.removal.entry).details.get("contribution_sha256"))
    for checkpoint in uow.checkpoints.all():
        if checkpoint.is_anchor:
            found.add(_kept_by(uow, checkpoint).get(erasure.site))
    others = {c.sha256 for c in uow.contributions.all() if c.site != erasure.site}
    return {sha256 for sha256 in found if sha256 is not None} - others


def _kept_by(uow: UnitOfWork, anchor: Checkpoint) -> dict[str, str]:
    return dict(uow.entries.get(anchor.entry).details.get("contributions", {}))


def _used_contributions(uow: UnitOfWork) -> set[str]:
    return {c.sha256 for c in uow.contributions.all() if c.sha256 is not None}


def _files(uow: UnitOfWork, versions: Versions) -> list[ModelFile]:
    return [file for file in uow.models.newest() if file.version in versions]


def _checkpoints(uow: UnitOfWork, versions: Versions) -> list[Checkpoint]:
    return [checkpoint for checkpoint in uow.checkpoints.all() if checkpoint.version in versions]


def _destroy_versions(versions: Versions, context: ErasureContext) -> None:
    with context.store.read() as uow:
        files, checkpoints = _files(uow, versions), _checkpoints(uow, versions)
        kept_files = _digests(uow.models.newest(), files)
        kept_checkpoints = _digests(uow.checkpoints.all(), checkpoints)
    for file in files:
        if file.sha256 not in kept_files:
            context.blobs.models.destroy(file.sha256)
    for checkpoint in checkpoints:
        if checkpoint.sha256 not in kept_checkpoints:
            context.blobs.checkpoints.destroy(checkpoint.sha256)
    with context.store.write() as uow:
        for file in files:
            uow.models.remove(file.version)
        for checkpoint in checkpoints:
            uow.checkpoints.remove(checkpoint.entry)
        uow.commit()


def _digests(
    all_of_them: Iterable[ModelFile | Checkpoint], but: Iterable[ModelFile | Checkpoint]
) -> set[str]:
    """Digests still in use once `but` are gone: equal weights share one blob."""
    left_out = set(but)
    return {one.sha256 for one in all_of_them if one not in left_out}
