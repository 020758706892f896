"""What a site does next, and whether what it does is still of use."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from coordinator.domain.privacy import PrivacyLoss
from coordinator.domain.site import Site, SiteState
from coordinator.domain.task import Task, TaskKind
from coordinator.domain.training_task import TrainTask, epoch_of, train_task
from coordinator.ports import Meter, Store
from coordinator.services.live_model import LiveModel
from coordinator.services.presence import Presence
from coordinator.services.rounds import Rounds
from letheon.errors import UnknownTask
from letheon.federation.plan import Training
from letheon.servicekit.clock import Clock

_OF_ITS_ERASURE = frozenset({TaskKind.EXCLUDE, TaskKind.ERASE, TaskKind.AUDIT, TaskKind.INVALIDATE})
# Records are excluded before anything else is done; what may take hours does not hold up the rest.
_FIRST, _LAST = TaskKind.EXCLUDE, TaskKind.ERASE


@dataclass(frozen=True)
class Polling:
    """How often agents ask."""

    retry_after_s: float = 2.0
    jitter: float = 0.25  # share of the delay, either way


@dataclass(frozen=True)
class NextTask:
    """The use cases of NextTask and Heartbeat."""

    store: Store
    live: LiveModel
    presence: Presence
    rounds: Rounds
    meter: Meter
    clock: Clock
    rng: random.Random
    polling: Polling
    federation: str
    training: Training
    _draws: Iterator[int] = field(default_factory=itertools.count)
    _abandoned: dict[str, str] = field(default_factory=dict)  # newest by site

    def __call__(
        self,
        site: str,
        *,
        abandoned: str | None,
        knows_invalidate: bool = False,
        privacy: PrivacyLoss | None = None,
    ) -> TrainTask | Task | timedelta:
        """A task, or how long to wait. Raises UnknownSite.

        An agent of an older release does not know invalidate tasks: it is not given any. Nor is a
        site given a train task whose privacy budget is spent.
        """
        with self.store.read() as uow:
            known = uow.sites.get(site)
            waiting = uow.tasks.waiting(site)
            has_delivered = self.rounds.has_delivered(uow, site)
        self.presence.heard(site, self.clock.now())
        self.presence.told_of_privacy(site, privacy)
        if abandoned is not None:
            self._count_abandoned(site, abandoned)
        if known.state is not SiteState.ACTIVE:
            waiting = [task for task in waiting if task.kind in _OF_ITS_ERASURE]
        if not knows_invalidate:
            waiting = [task for task in waiting if task.kind is not TaskKind.INVALIDATE]
        if waiting:
            return min(waiting, key=_urgency)
        trains = known.state is SiteState.ACTIVE and not self.presence.trains_no_more(site)
        if not trains or has_delivered:
            return self._delay()
        return self._train(known)

    def should_abandon(self, site: str, task: str | None) -> bool:
        """Whether the task at hand is of no use any more. Raises UnknownSite."""
        with self.store.read() as uow:
            known = uow.sites.get(site)
            self.presence.heard(site, self.clock.now())
            if task is None:
                return False
            epoch = epoch_of(task)
            if epoch is not None:
                if known.state is not SiteState.ACTIVE or epoch != self.live.position.epoch:
                    return True
                # Begun before records were excluded: its delta would be refused.
                return any(one.kind is TaskKind.EXCLUDE for one in uow.tasks.waiting(site))
            try:
                stored = uow.tasks.get(task)
            except UnknownTask:
                return True
        return stored.site != site or not stored.is_waiting

    def _train(self, site: Site) -> TrainTask:
        position = self.live.position
        versions = position.version - position.epoch_first_version
        return train_task(
            federation=self.federation,
            site=site.id,
            epoch=position.epoch,
            entry=position.entry,
            draw=next(self._draws),
            exclusion_counter=site.exclusion_counter,
            learning_rate=self.training.learning_rate_at(versions),
        )

    def _delay(self) -> timedelta:
        share = 1 + self.polling.jitter * (2 * self.rng.random() - 1)
        return timedelta(seconds=self.polling.retry_after_s * share)

    def _count_abandoned(self, site: str, task: str) -> None:
        """Counts a dropped train task once, however often the call is repeated."""
        if epoch_of(task) is None or self._abandoned.get(site) == task:
            return
        self._abandoned[site] = task
        self.meter.update("superseded", site)
        with self.store.note() as uow:
            uow.federation.count("superseded")
            uow.commit()


def _urgency(task: Task) -> int:
    """Rank among waiting tasks, which are in the order in which they were created."""
    return 0 if task.kind is _FIRST else 2 if task.kind is _LAST else 1
