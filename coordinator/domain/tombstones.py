"""The log of erasures at a second place, and what it says of a database.

A backup is older than the erasures that followed it. Restored, it would bring their subjects
back; the log, which no backup of the database contains, tells. Each line holds all that is needed
to file its erasure again. Pure functions; the file is `coordinator.adapters.tombstone_file`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from coordinator.domain.erasure import BEFORE_REMOVAL, Erasure, ErasureState


class TombstoneEvent(StrEnum):
    """What happened to an erasure."""

    REQUESTED = "requested"
    CANCELLED = "cancelled"
    CERTIFIED = "certified"
    RESTORED = "restored"  # filed again, or found open again, in a restored database


@dataclass(frozen=True)
class Tombstone:
    """One line; `erasure` as it was filed, in state RECEIVED."""

    number: int  # gap-free from 0
    event: TombstoneEvent
    erasure: Erasure
    at: datetime


class Step(StrEnum):
    """What a database that is behind the log lacks."""

    FILE = "file"  # the erasure: fence the subject again and carry it out
    CANCEL = "cancel"  # its withdrawal
    GO_ON = "go on"  # its certificate: the erasure is open again and will be carried out


@dataclass(frozen=True)
class Missing:
    """One erasure that a database must be brought up to."""

    step: Step
    erasure: Erasure  # as filed


def standings(log: Iterable[Tombstone]) -> dict[str, Tombstone]:
    """The line that counts, by erasure: a restored one stands where a requested one does."""
    return {line.erasure.id: line for line in log}


def missing(known: Mapping[str, Erasure], standing: Mapping[str, Tombstone]) -> list[Missing]:
    """What a database with these erasures lacks, withdrawals first, then in order of filing.

    A withdrawal comes first because the same site may have been named again after it.
    """
    found = [
        Missing(step, line.erasure)
        for line in standing.values()
        if (step := _step(known.get(line.erasure.id), line.event)) is not None
    ]
    return sorted(found, key=lambda each: (each.step is not Step.CANCEL, each.erasure.requested_at))


def _step(erasure: Erasure | None, event: TombstoneEvent) -> Step | None:
    if erasure is None:
        return None if event is TombstoneEvent.CANCELLED else Step.FILE
    if event is TombstoneEvent.CANCELLED and erasure.state in BEFORE_REMOVAL:
        return Step.CANCEL
    if erasure.state is ErasureState.AWAITING_APPROVAL:
        return Step.FILE  # it was approved since: the log knows no other
    if event is TombstoneEvent.CERTIFIED and erasure.state is not ErasureState.CERTIFIED:
        return Step.GO_ON
    return None


def due(erasure: Erasure, line: Tombstone | None) -> Sequence[TombstoneEvent]:
    """What the log lacks of an erasure whose newest line is this one."""
    if erasure.state is ErasureState.AWAITING_APPROVAL:
        return []  # nothing that a restored backup could undo has happened
    events = [] if line is not None else [TombstoneEvent.REQUESTED]
    written = None if line is None else line.event
    for state, event in (
        (ErasureState.CANCELLED, TombstoneEvent.CANCELLED),
        (ErasureState.CERTIFIED, TombstoneEvent.CERTIFIED),
    ):
        if erasure.state is state and written is not event:
            events.append(event)
    return events
