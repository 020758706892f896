"""Removes what a crash left behind: blobs without a row, uploads nobody will finish.

Both are safe while the coordinator serves. A blob is stored before its row is committed, so one
without a row may be about to get it. Four rules keep such a blob:

1. blobs are listed before rows are read: one stored later is not looked at;
2. a payload in flight is left, and what is in flight is read before the rows are: one that has
   left the register by then has its row;
3. a blob goes only if it had no row for ORPHAN_GRACE_S, as seen by this process;
4. the store itself leaves a blob that this process stored within ORPHAN_GRACE_S, in one step with
   removing it: the same bytes stored again meanwhile are either left or stored anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import timedelta

from coordinator.ports import ORPHAN_GRACE_S, Blobs, StagingArea, Store, UnitOfWork
from coordinator.services.destroy_subject import named_contributions
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)
_EVERY_S = 600.0

Removed = Callable[[str, int], None]  # area, count


@dataclass
class SweepOrphans:
    """Removes blobs that no row names. One thread at a time calls it."""

    store: Store
    blobs: Blobs
    clock: Clock
    in_flight: Callable[[], Set[str]]  # digests of payloads being accepted
    removed: Removed
    _unnamed_since: dict[str, dict[str, float]] = field(default_factory=dict)
    _swept_at: float | None = None

    def at_start(self) -> dict[str, int]:
        """Before anything is accepted: whoever stored what has no row is dead."""
        return self._sweep(grace_s=0.0)

    def if_due(self) -> dict[str, int]:
        """Now and then while serving; answers how many went, by area."""
        now = self.clock.monotonic()
        if self._swept_at is not None and now - self._swept_at < _EVERY_S:
            return {}
        return self._sweep(grace_s=ORPHAN_GRACE_S)

    def _sweep(self, *, grace_s: float) -> dict[str, int]:
        self._swept_at = self.clock.monotonic()
        counts = {area: self._sweep_area(area, grace_s) for area in self.blobs.areas()}
        found = {area: count for area, count in counts.items() if count}
        if found:
            _log.warning("orphans_removed", extra={"removed": found})
        return found

    def _sweep_area(self, area: str, grace_s: float) -> int:
        blobs = self.blobs.areas()[area]
        present = set(blobs.all())
        busy = self.in_flight() if area == "payloads" else frozenset()
        with self.store.read() as uow:
            named = _NAMED[area](uow)
        now, before = self.clock.monotonic(), self._unnamed_since.get(area, {})
        since = {sha256: before.get(sha256, now) for sha256 in present - busy - named}
        self._unnamed_since[area] = since
        due = [sha256 for sha256, first in since.items() if now - first >= grace_s]
        count = sum(blobs.destroy_orphan(sha256) for sha256 in due)
        if count:
            self.removed(area, count)
        return count


def sweep_uploads(
    store: Store, staging: StagingArea, clock: Clock, *, keep: timedelta, removed: Removed
) -> list[str]:
    """Forgets uploads begun longer ago than `keep`, and files without an upload.

    Answers the update ids that were forgotten for their age. A resend begins anew.
    """
    due = clock.now() - keep
    staged = set(staging.all())  # first: an upload has its row before it has a file
    with store.read() as uow:
        known = uow.uploads.all()
    old = [upload.update_id for upload in known if upload.started_at < due]
    unknown = staged - {upload.update_id for upload in known}
    # The file first, unless a stream holds it: a row without a file is found again next time.
    idle = [update_id for update_id in (*old, *unknown) if staging.discard_idle(update_id)]
    if not idle:
        return []
    with store.write() as uow:
        for update_id in idle:
            uow.uploads.remove(update_id)
        uow.commit()
    removed("uploads", len(idle))
    return [update_id for update_id in old if update_id in idle]


def _named_payloads(uow: UnitOfWork) -> set[str]:
    newest = uow.entries.newest()
    named = set(uow.entries.payloads(through=-1 if newest is None else newest.entry))
    kept = {delta.payload_sha256 for delta in uow.quarantined.all(waiting=True)}
    return named | kept | uow.receipts.stored_digests()


_NAMED: dict[str, Callable[[UnitOfWork], set[str]]] = {
    "payloads": _named_payloads,
    "models": lambda uow: {file.sha256 for file in uow.models.newest()},
    "checkpoints": lambda uow: {checkpoint.sha256 for checkpoint in uow.checkpoints.all()},
    "contributions": named_contributions,
}
