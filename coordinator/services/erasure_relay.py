"""Brings the ids of erasures to the stream: the outbox, and whatever the stream has lost.

The database is the truth and the stream carries wake-ups, so announcing twice is harmless and
announcing late costs only time.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Protocol

from coordinator.domain.claim import is_held
from coordinator.domain.erasure import Erasure
from coordinator.ports import Store, UnitOfWork
from coordinator.services.erasure_context import ErasureLimits
from letheon.servicekit import tracing
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


class Stream(Protocol):
    """What the relay needs of `letheon.servicekit.erasure_queue.ErasureQueue`."""

    def announce(self, erasure_id: str) -> None:
        """Raises StorageUnavailable."""
        ...


class ErasureRelay:
    """Two chores; one thread calls them."""

    def __init__(self, store: Store, stream: Stream, clock: Clock, limits: ErasureLimits) -> None:
        self._store, self._stream, self._clock = store, stream, clock
        self._lease = limits.claim_lease
        self._patience_s = limits.reannounce_after.total_seconds()
        self._announced: dict[str, float] = {}  # erasure -> monotonic seconds

    def relay(self) -> list[str]:
        """Announces what waits in the outbox; answers the erasures.

        Raises StorageUnavailable while the stream does not answer: the row waits.
        """
        done: list[str] = []
        with self._store.read() as uow:
            due = uow.outbox.due()
        for row in due:
            with self._store.read() as uow:
                still_open = uow.erasures.get(row.erasure).is_open
            if still_open:
                self._announce(row.erasure)
                done.append(row.erasure)
                reach("relay.announced")
            # After the stream has it: a crash between the two announces once more.
            with self._store.write() as uow:
                uow.outbox.mark_announced(row.id, self._clock.now())
                uow.commit()
        return done

    def reconcile(self) -> list[str]:
        """Announces again what is open and in nobody's hands for long; answers the erasures."""
        now = self._clock.now()
        with self._store.read() as uow:
            still_open = uow.erasures.open()
            waiting = {row.erasure for row in uow.outbox.due()}
            idle = [e for e in still_open if e.id not in waiting and self._is_idle(uow, e, now)]
        ids = {erasure.id for erasure in still_open}
        self._announced = {e: at for e, at in self._announced.items() if e in ids}
        late = [erasure.id for erasure in idle if self._is_late(erasure.id)]
        for erasure in late:
            _log.warning("erasure_announced_again", extra={"erasure": erasure})
            self._announce(erasure)
        return late

    def _announce(self, erasure: str) -> None:
        with tracing.resumed(erasure):
            self._stream.announce(erasure)
        self._announced[erasure] = self._clock.monotonic()

    def _is_idle(self, uow: UnitOfWork, erasure: Erasure, now: datetime) -> bool:
        return not is_held(uow.claims.find(erasure.id), now=now, lease=self._lease)

    def _is_late(self, erasure: str) -> bool:
        """After a start nothing is known of earlier announcements: patience begins anew."""
        now = self._clock.monotonic()
        return now - self._announced.setdefault(erasure, now) >= self._patience_s
