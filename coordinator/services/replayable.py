"""From which row on the state can be rebuilt: payloads before it were given up or destroyed."""

from __future__ import annotations

from coordinator.domain.model import Checkpoint
from coordinator.ports import UnitOfWork
from letheon.errors import LedgerBroken
from letheon.federation.ledger import FIRST_ENTRY

NOTHING_COMPACTED = FIRST_ENTRY - 1


def compacted_through(uow: UnitOfWork) -> int:
    """The row of the anchor that stands in for all payloads given up; -1 if none were.

    Payloads that only rows at or before it name are gone, or about to go.
    """
    return max((c.through_entry for c in uow.compactions.all()), default=NOTHING_COMPACTED)


def replayable_anchors(uow: UnitOfWork) -> list[Checkpoint]:
    """The anchors from which a replay can begin, oldest first."""
    anchors = [c for c in reversed(uow.checkpoints.all()) if c.is_anchor]
    floor = _floor(uow, anchors)
    return [c for c in anchors if c.entry >= floor]


def oldest_replayable(uow: UnitOfWork) -> int:
    """The row after which the state can still be rebuilt, and after every later one.

    Raises LedgerBroken if an anchor's checkpoint is no longer recorded.
    """
    anchors = [c for c in reversed(uow.checkpoints.all()) if c.is_anchor]
    floor = _floor(uow, anchors)
    if floor == NOTHING_COMPACTED:
        return FIRST_ENTRY
    later = [c.entry for c in anchors if c.entry >= floor]
    if not later:
        raise LedgerBroken(
            f"no anchor stands in for the payloads before row {floor}: restore the database and "
            "the files from one backup",
            entry=floor,
        )
    return later[0]


def _floor(uow: UnitOfWork, anchors: list[Checkpoint]) -> int:
    # Rows before the anchor of an erasure may name payloads that it destroyed.
    erased = [c.entry for c in anchors if "erasure" in uow.entries.get(c.entry).details]
    return max((compacted_through(uow), *erased))
