"""At the start: whether every file that a row names is there and whole. Sizes only, no hashing.

What can be made again is dropped with a warning; what cannot is asked for with a sentence. A
payload is never guessed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.domain.model import Checkpoint
from coordinator.ports import Blobs, BlobStore, Store, UnitOfWork
from coordinator.services.replay_start import entries_after
from coordinator.services.replayable import (
    compacted_through,
    oldest_replayable,
    replayable_anchors,
)
from letheon.errors import PayloadMissing
from letheon.federation.ledger import FIRST_ENTRY

_log = logging.getLogger(__name__)
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class _Area:
    """The files of one folder by size in bytes."""

    name: str
    sizes: dict[str, int]

    def fault(self, sha256: str, size_bytes: int) -> str | None:
        """What is wrong with a file, or None."""
        found = self.sizes.get(sha256)
        if found == size_bytes:
            return None
        return "is missing" if found is None else f"has {found} bytes instead of {size_bytes}"


def check_integrity(store: Store, blobs: Blobs, *, size: int) -> None:
    """Checks the files of a coordinator whose model has `size` elements, before it recovers.

    Raises PayloadMissing naming the row, the file and what to do.
    """
    vector_bytes = size * _FLOAT32_BYTES
    _check_payloads(store, _Area("payloads", blobs.payloads.sizes()))
    sums = _Area("contributions", blobs.contributions.sizes())
    _check_contributions(store, sums, vector_bytes)
    _check_checkpoints(store, blobs.checkpoints, sums, vector_bytes)
    _check_models(store, blobs.models)


def _check_payloads(store: Store, payloads: _Area) -> None:
    """Of every row after the last compaction, and of what waited at it."""
    with store.read() as uow:
        floor = compacted_through(uow)
        waiting = [uow.entries.get(d.entry) for d in uow.buffered.waiting(floor)]
    for row in (*waiting, *entries_after(store, floor)):
        if row.payload_sha256 is None or row.payload_bytes is None:
            continue
        fault = payloads.fault(row.payload_sha256, row.payload_bytes)
        if fault is None:
            continue
        with store.read() as uow:
            if uow.destroyed.destroyer_of(row.payload_sha256) is not None:
                continue
        raise _missing(payloads, row.payload_sha256, fault, f"row {row.entry}", row.entry)


def _check_contributions(store: Store, sums: _Area, vector_bytes: int) -> None:
    with store.read() as uow:
        stored = uow.contributions.all()
    for row in stored:
        if row.sha256 is None:
            continue
        fault = sums.fault(row.sha256, vector_bytes)
        if fault is not None:
            of = f"the contribution of sites/{row.site} up to row {row.folded_through}"
            raise _missing(sums, row.sha256, fault, of, row.folded_through)


def _check_checkpoints(
    store: Store, checkpoints: BlobStore, sums: _Area, vector_bytes: int
) -> None:
    """Drops damaged ones, unless a replay or the recovery could then begin nowhere."""
    area = _Area("checkpoints", checkpoints.sizes())
    with store.read() as uow:
        known = uow.checkpoints.all()
        faults = {
            c.entry: fault
            for c in known
            if (fault := _checkpoint_fault(uow, c, area, sums, vector_bytes)) is not None
        }
        if not faults:
            return
        needed = _last_start(uow, faults)
    if needed is not None:
        of = f"the anchor of row {needed.entry}"
        raise _missing(area, needed.sha256, faults[needed.entry], of, needed.entry)
    damaged = [c for c in known if c.entry in faults]
    _drop_checkpoints(store, checkpoints, damaged, faults)


def _checkpoint_fault(
    uow: UnitOfWork, checkpoint: Checkpoint, area: _Area, sums: _Area, vector_bytes: int
) -> str | None:
    fault = area.fault(checkpoint.sha256, vector_bytes)
    if fault is not None or not checkpoint.is_anchor:
        return fault
    kept = uow.entries.get(checkpoint.entry).details.get("contributions", {})
    for site, sha256 in kept.items():
        fault = sums.fault(sha256, vector_bytes)
        if fault is not None:
            return f"is of no use: contributions/{sha256} of sites/{site} {fault}"
    return None


def _last_start(uow: UnitOfWork, faults: dict[int, str]) -> Checkpoint | None:
    """The damaged anchor without which no replay could begin, if there is one."""
    if oldest_replayable(uow) == FIRST_ENTRY:
        return None
    anchors = replayable_anchors(uow)
    return anchors[-1] if all(c.entry in faults for c in anchors) else None


def _drop_checkpoints(
    store: Store, checkpoints: BlobStore, damaged: list[Checkpoint], faults: dict[int, str]
) -> None:
    with store.write() as uow:
        for checkpoint in damaged:
            uow.checkpoints.remove(checkpoint.entry)
        named = {c.sha256 for c in uow.checkpoints.all()}
        uow.commit()
    for checkpoint in damaged:
        if checkpoint.sha256 not in named:
            checkpoints.destroy(checkpoint.sha256)
        _log.warning(
            "checkpoint_dropped",
            extra={
                "entry": checkpoint.entry,
                "sha256": checkpoint.sha256,
                "fault": faults[checkpoint.entry],
            },
        )


def _check_models(store: Store, models: BlobStore) -> None:
    """Drops what nobody pinned; a pinned version is what somebody serves, reads or proves with."""
    area = _Area("models", models.sizes())
    with store.read() as uow:
        pins = uow.models.pins()
        damaged = [
            (file, fault)
            for file in uow.models.newest()
            if (fault := area.fault(file.sha256, file.size_bytes)) is not None
        ]
        gone = uow.destroyed.versions()
    for file, fault in damaged:
        destroyed = any(d.first_version <= file.version <= d.last_version for d in gone)
        if file.version in pins and not destroyed:
            of = f"models/{file.version}, pinned by {', '.join(sorted(pins[file.version]))},"
            raise _missing(area, file.sha256, fault, of, None)
    for file, fault in damaged:
        with store.write() as uow:
            uow.models.remove(file.version)
            uow.commit()
        models.destroy(file.sha256)
        _log.warning("model_dropped", extra={"version": file.version, "fault": fault})


def _missing(area: _Area, sha256: str, fault: str, of: str, entry: int | None) -> PayloadMissing:
    return PayloadMissing(
        f"{of} needs the file {area.name}/{sha256}, which {fault}: put it back from a backup of "
        "the coordinator's files, then start again; if its data key was destroyed by an erasure "
        "after this backup was taken, only a newer backup can be used",
        sha256=sha256,
        file=f"{area.name}/{sha256}",
        **({} if entry is None else {"entry": entry}),
    )
