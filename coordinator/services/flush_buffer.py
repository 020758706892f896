"""Merges waiting deltas: coefficients are fixed, recorded and applied together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import BufferedDelta
from coordinator.domain.site import in_version
from coordinator.ports import UnitOfWork
from letheon.federation.aggregation.strategy import Offer, Strategy
from letheon.federation.ledger import Entry, EntryKind, merges


def offers(waiting: Sequence[BufferedDelta]) -> list[Offer]:
    """What the strategy may know of the waiting deltas."""
    return [Offer(d.site, d.staleness, d.record_count, d.norm) for d in waiting]


def coefficients(strategy: Strategy, waiting: Sequence[BufferedDelta]) -> list[tuple[int, float]]:
    """(buffered entry, coefficient) in entry order: what a flush or removal row records."""
    if not waiting:
        return []
    fixed = strategy.coefficients(offers(waiting))
    return [(delta.entry, c) for delta, c in zip(waiting, fixed, strict=True)]


def mark_flushed(
    uow: UnitOfWork,
    waiting: Sequence[BufferedDelta],
    pairs: Sequence[tuple[int, float]],
    entry: Entry,
) -> None:
    """Records in which row, and by what, each delta was merged."""
    for delta, (_, coefficient) in zip(waiting, pairs, strict=True):
        uow.buffered.save(replace(delta, flushed_by=entry.entry, coefficient=coefficient))
        uow.sites.save(in_version(uow.sites.get(delta.site), entry.version))


def flush(
    uow: UnitOfWork,
    strategy: Strategy,
    waiting: Sequence[BufferedDelta],
    newest: Entry,
    *,
    at: datetime,
) -> Entry:
    """The flush row after `newest` that merges what waits, added with its marks."""
    pairs = coefficients(strategy, waiting)
    entry = follow(newest, EntryKind.FLUSH, at=at, details={"merged": merges(pairs)})
    uow.entries.add(entry)
    mark_flushed(uow, waiting, pairs, entry)
    return entry
