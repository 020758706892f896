"""Keeps the tombstone log up with the database: before an erasure's change is answered."""

from __future__ import annotations

import threading

from coordinator.domain.erasure import Erasure
from coordinator.domain.tombstones import Missing, Tombstone, due, missing, standings
from coordinator.domain.tombstones import TombstoneEvent as Event
from coordinator.ports import Store, TombstoneLog
from letheon.servicekit.clock import Clock


class KeepTombstones:
    """Without a log nothing is kept, and a restored backup goes unnoticed."""

    def __init__(self, log: TombstoneLog | None, store: Store, clock: Clock) -> None:
        self._log, self._store, self._clock = log, store, clock
        self._lock = threading.Lock()
        self._standing: dict[str, Tombstone] = {} if log is None else standings(log.all())

    @property
    def is_kept(self) -> bool:
        """Whether there is a log."""
        return self._log is not None

    def missing(self) -> list[Missing]:
        """What the database lacks. Not empty: it is older than the log."""
        with self._store.read() as uow:
            known = {erasure.id: erasure for erasure in uow.erasures.all()}
        return missing(known, self._standing)

    def record(self, erasure: Erasure) -> None:
        """The log has what the erasure went through when this returns.

        Called before the change is answered: a change that nobody was told of may be lost with
        its database. Raises StorageUnavailable; repeating the call that failed ends here again.
        """
        with self._lock:
            for event in due(erasure, self._standing.get(erasure.id)):
                self._append(event, erasure)

    def record_restored(self, erasure: Erasure) -> None:
        """The restored database has the erasure again."""
        with self._lock:
            self._append(Event.RESTORED, erasure)

    def catch_up(self) -> int:
        """Adds what a crash between commit and log, or a log that is new, lacks; how many."""
        with self._store.read() as uow:
            known = sorted(uow.erasures.all(), key=lambda erasure: erasure.requested_at)
        before = len(self._standing)
        for erasure in known:
            self.record(erasure)
        return len(self._standing) - before

    def _append(self, event: Event, erasure: Erasure) -> None:
        if self._log is not None:
            self._standing[erasure.id] = self._log.append(event, erasure, self._clock.now())
