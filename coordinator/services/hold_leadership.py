"""Makes this process the one that may write, and keeps it so.

A renewal that fails ends nothing: the token decides at the next write. Only when another process
has taken over does this one end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from coordinator.domain.leadership import give_up, renew, take
from coordinator.domain.model import Leadership
from coordinator.ports import LedStore
from letheon.errors import (
    DatabaseBusy,
    LeadershipHeld,
    LeadershipLost,
    LetheonError,
    StorageUnavailable,
)
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)
_LOOKS_PER_LEASE = 3


class LeadershipWatch(Protocol):
    """Who is told what the lease shows; called from the thread that looks."""

    def database_answers(self, *, holds: bool) -> None:
        """Whether the last look at the lease succeeded."""
        ...

    def waits_for(self, holder: str) -> None:
        """Another process may write; this one stands by."""
        ...


class Unwatched:
    """Nobody wants to know."""

    def database_answers(self, *, holds: bool) -> None:
        """Says nothing."""

    def waits_for(self, holder: str) -> None:
        """Says nothing."""


class HoldLeadership:
    """The lease of one process. Sets `ending` when the process must end."""

    def __init__(
        self,
        store: LedStore,
        clock: Clock,
        *,
        holder: str,
        lease: timedelta,
        ending: threading.Event,
        watch: LeadershipWatch | None = None,
    ) -> None:
        self._store, self._clock = store, clock
        self._watch = watch or Unwatched()
        self._holder, self._lease = holder, lease
        self._ending = ending
        self._pause_s = lease.total_seconds() / _LOOKS_PER_LEASE
        self._lost = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)

    def start(self) -> None:
        """Waits until this process may write, then renews the lease in the background.

        A database that goes away meanwhile is waited for as well. Raises LeadershipHeld or
        StorageUnavailable if `ending` is set before that.
        """
        self._store.lead(self._taken().token, self._lose)
        self._thread.start()

    def stop(self) -> None:
        """Gives the lease up, so that a successor need not wait."""
        self._stopping.set()
        self._thread.join()
        try:
            self._change(lambda current: give_up(current, self._clock.now()))
        except LetheonError as error:
            _log.warning("lease_not_given_up", extra={"reason": error.reason})

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken over."""
        return self._lost.is_set()

    def check(self) -> None:
        """Raises LeadershipLost if another process has taken over."""
        if self.is_lost:
            raise LeadershipLost(
                "another coordinator writes to this database now: this one has ended; started "
                "again, it waits until the other's lease is over"
            )

    def _taken(self) -> Leadership:
        watch = _Watch(self._clock)
        told = ""
        while True:
            try:
                taken = self._take_if_due(watch)
            except LeadershipHeld as error:
                self._watch.database_answers(holds=True)
                self._watch.waits_for(error.facts["holder"])
                if told != error.facts["holder"]:
                    told = error.facts["holder"]
                    _log.warning("waiting_for_lease", extra={"holder": told})
                if self._clock.wait(self._ending, min(error.retry_after_s, self._pause_s)):
                    raise
            except (StorageUnavailable, DatabaseBusy) as error:
                self._watch.database_answers(holds=False)
                _log.warning("lease_not_read", extra={"reason": error.reason})
                if self._clock.wait(self._ending, self._pause_s):
                    raise
            else:
                self._watch.database_answers(holds=True)
                return taken

    def _take_if_due(self, watch: _Watch) -> Leadership:
        # Looking comes first: the one that leads must not wait behind those that would like to.
        with self._store.read() as uow:
            self._next(uow.leadership.get(), watch)
        with self._store.write() as uow:
            taken = self._next(uow.leadership.get(), watch)
            uow.leadership.save(taken)
            uow.commit()
        _log.info("leading", extra={"holder": taken.holder, "token": taken.token})
        return taken

    def _next(self, current: Leadership, watch: _Watch) -> Leadership:
        return take(
            current,
            holder=self._holder,
            now=self._clock.now(),
            lease=self._lease,
            unrenewed=watch.unrenewed(current),
        )

    def _run(self) -> None:
        while not self._clock.wait(self._stopping, self._pause_s):
            try:
                self._change(
                    lambda current: renew(current, now=self._clock.now(), lease=self._lease)
                )
            except LeadershipLost:
                return
            except LetheonError as error:
                self._watch.database_answers(holds=False)
                _log.warning("lease_not_renewed", extra={"reason": error.reason})
            else:
                self._watch.database_answers(holds=True)

    def _change(self, change: Callable[[Leadership], Leadership]) -> None:
        # A lease that a power cut takes back is over a little earlier; nothing else happens.
        with self._store.note() as uow:
            uow.leadership.save(change(uow.leadership.get()))
            uow.commit()

    def _lose(self) -> None:
        if not self._lost.is_set():
            self._lost.set()
            _log.error("leadership_lost", extra={"holder": self._holder})
        self._ending.set()


class _Watch:
    """For how long nobody has renewed the lease, by this process's own clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: Leadership | None = None
        self._since_s = 0.0

    def unrenewed(self, current: Leadership) -> timedelta:
        """Time since the leadership was first seen as it is."""
        now_s = self._clock.monotonic()
        if current != self._seen:
            self._seen, self._since_s = current, now_s
        return timedelta(seconds=now_s - self._since_s)
