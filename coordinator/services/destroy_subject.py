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
from coordinator.domain.quarantine import QuarantineState, decided
from coordinator.domain.upload import Upload
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
    is_out = removal.subtracted or removal.exchanged
    return Versions(first, removal.version_before if is_out else candidate - 1)


def mark(
    uow: UnitOfWork,
    erasure: Erasure,
    survey: Survey,
    versions: Versions,
    *,
    anchor: int,
    now: datetime,
    sums: frozenset[str] = frozenset(),
) -> Counts:
    """Marks everything that holds the subject; inside the promoting transaction.

    `sums` are digests of contributions of its site that gave way to newer ones.
    """
    if versions != NO_VERSIONS:
        uow.destroyed.add_versions(Destroyed(versions.first, versions.last, erasure.id, now))
    # A payload that a retained site sent too, bit for bit, is that site's as well.
    answers = _answers(uow, erasure) - survey.foreign
    # What a site that stays sent without the records may still wait in a buffer.
    awaited = {delta.payload_sha256 for delta in uow.buffered.waiting()}
    payloads = survey.own - survey.foreign - awaited
    contributions = _contributions(uow, erasure, sums)
    set_aside = _void_quarantined(uow, erasure, now) - survey.foreign - awaited
    for sha256 in sorted(answers | payloads | contributions | set_aside):
        uow.destroyed.add_payload(sha256, erasure.id, now)
    if erasure.names_site:
        uow.contributions.save(Contribution(erasure.site, anchor, None, 0))
    uploads = [upload for upload in uow.uploads.all() if _is_of(upload, erasure)]
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


def _void_quarantined(uow: UnitOfWork, erasure: Erasure, now: datetime) -> set[str]:
    """Digests of what screening set aside and may hold the subject; it is never released."""
    found: set[str] = set()
    for delta in uow.quarantined.all(waiting=True, site=erasure.site):
        if erasure.names_site or delta.exclusion_counter < erasure.exclusion_counter:
            uow.quarantined.save(decided(delta, QuarantineState.VOIDED, now))
            found.add(delta.payload_sha256)
    return {sha256 for sha256 in found if not uow.quarantined.keeps(sha256)}


def _answers(uow: UnitOfWork, erasure: Erasure) -> set[str]:
    receipts = uow.receipts.stored(site=erasure.site)
    if erasure.names_site:
        return {receipt.sha256 for receipt in receipts}
    own = {task.id for task in uow.tasks.of_erasure(erasure.id)}
    return {receipt.sha256 for receipt in receipts if receipt.task in own}


def _is_of(upload: Upload, erasure: Erasure) -> bool:
    """Whether an unfinished upload may hold the subject."""
    return upload.site == erasure.site and (
        erasure.names_site or upload.started_at <= erasure.fenced_at
    )


def destroy_marked(erasure: Erasure, context: ErasureContext) -> None:
    """Deletes what the erasure marked. Files first, then the rows that name them."""
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
    reach("subject.payloads_destroyed")
    for update_id in staged - known_uploads:
        context.staging.discard_idle(update_id)
    for part in gone:
        _destroy_versions(Versions(part.first_version, part.last_version), context)
    if context.ring is not None:
        # Their keys are forgotten; what a copy of the key records still holds must not open them.
        context.ring.shred()
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
    return [erasure.id for erasure in promoted]


def named_contributions(uow: UnitOfWork) -> set[str]:
    """Digests of the stored sums that are still needed: all others are leftovers."""
    named = _used_contributions(uow)
    for checkpoint in uow.checkpoints.all():
        if checkpoint.is_anchor:
            named |= set(_kept_by(uow, checkpoint).values())
    for erasure in uow.erasures.open():
        named |= _contributions(uow, erasure)
        if erasure.exchange is not None:
            named.add(erasure.exchange.contribution_sha256)
    return named


def _contributions(
    uow: UnitOfWork, erasure: Erasure, sums: frozenset[str] = frozenset()
) -> set[str]:
    """Digests of stored sums of the subject: its own row, its removal, what anchors kept.

    Of records also `sums`; but not the present sum of their site, which is free of them.
    """
    found: set[str | None] = set(sums)
    row = uow.contributions.find(erasure.site)
    present = row.sha256 if row else None
    if erasure.exchange is not None:
        found.add(erasure.exchange.contribution_sha256)
    if erasure.names_site:
        found.add(present)
    if erasure.removal is not None:
        found.add(uow.entries.get(erasure.removal.entry).details.get("contribution_sha256"))
    for checkpoint in uow.checkpoints.all():
        if checkpoint.is_anchor:
            found.add(_kept_by(uow, checkpoint).get(erasure.site))
    others = {c.sha256 for c in uow.contributions.all() if c.site != erasure.site}
    for checkpoint in uow.checkpoints.all():
        if checkpoint.is_anchor:
            kept = _kept_by(uow, checkpoint)
            others |= {sha256 for site, sha256 in kept.items() if site != erasure.site}
    if not erasure.names_site and present is not None:
        others.add(present)
    return {sha256 for sha256 in found if sha256 is not None} - others


def _kept_by(uow: UnitOfWork, anchor: Checkpoint) -> dict[str, str]:
    return dict(uow.entries.get(anchor.entry).details.get("contributions", {}))


def _sums_of(uow: UnitOfWork, checkpoints: Iterable[Checkpoint]) -> set[str]:
    """Digests of all sums that the anchors among these keep."""
    return {sha256 for c in checkpoints if c.is_anchor for sha256 in _kept_by(uow, c).values()}


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
        sums = _sums_of(uow, checkpoints) - _used_contributions(uow)
        sums -= _sums_of(uow, [c for c in uow.checkpoints.all() if c not in checkpoints])
    for sha256 in sums:  # of retained sites, which nothing but these anchors kept
        context.blobs.contributions.destroy(sha256)
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
