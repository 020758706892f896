"""When waiting deltas are merged, and whom a synchronous strategy waits for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from coordinator.domain.model import BufferedDelta
from coordinator.domain.site import SiteState
from coordinator.ports import Store, UnitOfWork
from coordinator.services.flush_buffer import flush, offers
from coordinator.services.live_model import LiveModel
from coordinator.services.presence import Presence
from letheon.federation.aggregation.strategy import Strategy
from letheon.federation.ledger import Entry
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rounds:
    """The buffer of a strategy. A round is what waits until it is merged together.

    Every active site takes part in a round, but one that was not heard of for `patience`, and one
    that trains no more because its privacy budget is spent. While
    the coordinator was down nobody could be: patience begins no earlier than this process.
    """

    strategy: Strategy
    presence: Presence
    clock: Clock
    patience: timedelta
    _began: datetime = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_began", self.clock.now())

    def flush_if_ready(self, uow: UnitOfWork, newest: Entry, *, at: datetime) -> Entry | None:
        """The flush row after `newest`, added with its marks, if the strategy is ready."""
        if not self.strategy.buffers:
            return None
        waiting = uow.buffered.waiting()
        if not self._is_ready(uow, waiting):
            return None
        return flush(uow, self.strategy, waiting, newest, at=at)

    def is_over(self, uow: UnitOfWork) -> bool:
        """Whether what waits is to be merged now."""
        return self._is_ready(uow, uow.buffered.waiting())

    def has_delivered(self, uow: UnitOfWork, site: str) -> bool:
        """Whether a site has done its part of the round and waits for the others."""
        if not self.strategy.synchronous:
            return False
        return any(delta.site == site for delta in uow.buffered.waiting())

    def _is_ready(self, uow: UnitOfWork, waiting: Sequence[BufferedDelta]) -> bool:
        if not self.strategy.synchronous:
            return self.strategy.ready(offers(waiting))
        return self.strategy.ready(offers(waiting), self._taking_part(uow))

    def _taking_part(self, uow: UnitOfWork) -> frozenset[str]:
        since = self.clock.now() - self.patience
        return frozenset(
            site.id
            for site in uow.sites.all()
            if site.state is SiteState.ACTIVE
            and not self.presence.trains_no_more(site.id)
            and max(self.presence.on(site).last_seen_at, self._began) >= since
        )


@dataclass(frozen=True)
class CloseRound:
    """Merges what waits when the one it waited for will not come: a chore.

    A delta ends a round when it arrives; a fence, or the end of patience, brings no delta.
    """

    rounds: Rounds
    store: Store
    live: LiveModel

    def __call__(self) -> None:
        """Does nothing while a round goes on."""
        with self.store.read() as uow:
            if not self.rounds.is_over(uow):
                return
        with self.live.exclusive() as head, self.store.write() as uow:
            entry = self.rounds.flush_if_ready(uow, head.newest, at=self.rounds.clock.now())
            if entry is not None:
                head.commit(uow, [entry])
                _log.info("round_closed", extra={"entry": entry.entry, "version": entry.version})
