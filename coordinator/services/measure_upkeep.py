"""How much is kept, and how far back it reaches."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.ports import Blobs, StagingArea, Store
from coordinator.services.replay_start import BEFORE_FIRST
from coordinator.services.replayable import oldest_replayable


@dataclass(frozen=True)
class UpkeepFigures:
    """What an operator watches."""

    bytes_by_area: dict[str, int]
    payloads: int  # files
    oldest_entry: int  # after it and every later one the state can be rebuilt
    oldest_version: int
    entries_since_checkpoint: int


def measure_upkeep(
    store: Store, blobs: Blobs, staging: StagingArea, head_entry: int
) -> UpkeepFigures:
    """The figures of this moment, the head being at row `head_entry`. Raises LedgerBroken."""
    with store.read() as uow:
        oldest = oldest_replayable(uow)
        oldest_version = uow.entries.get(oldest).version
        checkpoints = uow.checkpoints.all()
    newest = checkpoints[0].entry if checkpoints else BEFORE_FIRST
    areas = {
        "payloads": blobs.payloads.disk_bytes(),
        "checkpoints": blobs.checkpoints.disk_bytes(),
        "contributions": blobs.contributions.disk_bytes(),
        "models": blobs.models.disk_bytes(),
        "uploads": sum(staging.committed_bytes(update) for update in staging.all()),
    }
    return UpkeepFigures(
        bytes_by_area=areas,
        payloads=len(blobs.payloads.all()),
        oldest_entry=oldest,
        oldest_version=oldest_version,
        # A checkpoint may be newer than the position that was read before it.
        entries_since_checkpoint=max(0, head_entry - newest),
    )
