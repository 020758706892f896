"""A federation under a virtual clock: who trains when, what arrives, and in which order.

Event-driven: a task ends after the time its site takes, its delta is computed then, and the
coordinator merges or refuses it. Asynchronous unless told otherwise; in synchronous mode all
sites train from one head and wait for the slowest.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace

import numpy as np

from letheon.federation.parameters import Vector
from letheon.simulation.central import Alter, Central, Fate
from letheon.simulation.sites import Trainer
from letheon.simulation.virtual_time import Partition, TrainingTimes, derived_seed

#: Agents hear of a new epoch with their next heartbeat and drop the task at hand.
NOTICE_S = 0.1
SYNCHRONOUS_RATE = 1.0  # of FedAvg on the server: the mean of the round's deltas is added whole


@dataclass(frozen=True)
class Task:
    """One local training, begun."""

    site: str
    number: int  # of the site, from 0
    base: Vector  # [d], never written to
    base_version: int
    epoch: int
    learning_rate: float
    seed: int
    begins: float  # virtual seconds
    ends: float
    lost: bool = False  # the site drops out and nothing arrives


@dataclass
class Counts:
    """What happened to the work of the sites."""

    merged: dict[str, int] = field(default_factory=dict)  # accepted deltas by site
    superseded: int = 0  # tasks in flight when an epoch began
    excluded: int = 0  # tasks of a site in flight when it left records out
    fenced: int = 0
    dropped: int = 0  # drop-outs
    stalled: int = 0  # tasks thrown away because all sites were halted
    overwritten: int = 0  # accepted deltas lost to an overwrite of the head


@dataclass(frozen=True)
class Setting:
    """What a federation is made of, apart from its state."""

    sites: tuple[str, ...]
    trainer: Trainer
    times: TrainingTimes
    seed: int  # of the sampling order of local training
    partition: Partition | None = None


Watcher = Callable[["Federation"], None]


@dataclass
class Federation:
    """The state of a simulation. `copy` gives one that goes on by itself."""

    setting: Setting
    central: Central
    now: float = 0.0
    counts: Counts = field(default_factory=Counts)
    alter: Alter | None = None
    synchronous: bool = False
    halted: bool = False  # synchronous methods stop everybody while they work
    numbers: dict[str, int] = field(default_factory=dict)  # next task by site
    agenda: list[tuple[float, int, Task]] = field(default_factory=list)
    sequence: int = 0
    last_local: dict[str, Vector] = field(default_factory=dict)  # last uploaded local model [d]
    last_deltas: list[tuple[str, Vector]] = field(default_factory=list)  # newest last, at most 16

    @classmethod
    def begin(cls, setting: Setting, central: Central) -> Federation:
        """All sites start to train from version 0."""
        federation = cls(setting, central)
        for site in setting.sites:
            federation._dispatch(site)
        return federation

    def copy(self, setting: Setting | None = None) -> Federation:
        """A federation in the same state; tasks in flight included."""
        return replace(
            self,
            setting=setting or self.setting,
            central=self.central.copy(),
            counts=replace(self.counts, merged=dict(self.counts.merged)),
            numbers=dict(self.numbers),
            agenda=list(self.agenda),
            last_local=dict(self.last_local),
            last_deltas=list(self.last_deltas),
        )

    @property
    def active(self) -> tuple[str, ...]:
        """The sites that may contribute."""
        return tuple(site for site in self.setting.sites if site not in self.central.fenced)

    def accepted(self, *, without: Set[str] = frozenset()) -> int:
        """Deltas accepted so far, of all sites but some."""
        return sum(count for site, count in self.counts.merged.items() if site not in without)

    def next_event(self) -> float | None:
        """When the next task ends; None if nobody works."""
        return self.agenda[0][0] if self.agenda else None

    def step(self) -> None:
        """Carries out the next event. Raises IndexError if there is none."""
        self.now, _, task = heapq.heappop(self.agenda)
        if task.site in self.central.fenced:
            self.counts.fenced += 1
            self._end_round_if_due()
            return
        if task.lost:
            self.counts.dropped += 1
            self._dispatch(task.site)
            return
        if task.epoch != self.central.epoch and self.central.rules.refuse_old_epochs:
            self.counts.superseded += 1
            self._dispatch(task.site)
            return
        self._deliver(task)

    def supersede(self) -> None:
        """A new epoch began: tasks in flight are dropped, and their sites begin again at once.

        A task that has not begun is exchanged without being counted: nobody lost work. A site that
        is cut off hears of the epoch when it is back. In the ablation nobody is told.
        """
        if not self.central.rules.refuse_old_epochs:
            return
        waiting, self.agenda = sorted(self.agenda), []
        for _, _, task in waiting:
            if task.site in self.central.fenced:
                self.counts.fenced += 1
            elif task.lost:
                self._push(task)
            elif self.arrival(task.site, self.now) > self.now:
                self._push(replace(task, ends=self.arrival(task.site, self.now)))
            else:
                self.counts.superseded += task.begins <= self.now
                self._dispatch(task.site, delay=NOTICE_S)
        self._end_round_if_due()

    def exclude(self, site: str, trainer: Trainer) -> None:
        """The site leaves records out: from here on it trains as `trainer` does.

        Its tasks in flight, and what waits of it to be merged, were made with the records and are
        dropped, wherever the site is: it is the site itself that asks. It begins again at once.
        """
        self.setting = replace(self.setting, trainer=trainer)
        self.central.void(site, self.now)
        # One that drops out delivers nothing, and stays away as long as it was going to.
        kept = [entry for entry in self.agenda if entry[2].site != site or entry[2].lost]
        dropped = len(self.agenda) - len(kept)
        self.agenda = sorted(kept)
        self.counts.excluded += dropped
        for _ in range(dropped):
            self._dispatch(site)

    def readmit(self, site: str) -> None:
        """All that the site contributed is subtracted, and the site begins again at zero.

        Raises ContributionNotSubtractable.
        """
        self.central.remove(site, self.now, subtract=True)
        self.central.fenced.discard(site)
        self.supersede()

    def synchronise(self) -> None:
        """Rounds with a barrier from here on; nobody works until `resume`."""
        self.synchronous, self.halted = True, True
        self.counts.stalled += len(self.agenda)
        self.agenda = []

    def resume(self) -> None:
        """The halt ends; a round begins."""
        self.halted = False
        self._begin_round()

    def cut(self, partition: Partition) -> None:
        """A partition from now on, or later: what would arrive during it arrives at its end."""
        self.setting = replace(self.setting, partition=partition)
        waiting, self.agenda = sorted(self.agenda), []
        for _, _, task in waiting:
            self._push(replace(task, ends=partition.arrival(task.site, task.ends)))

    def arrival(self, site: str, at: float) -> float:
        """When something that passes between the site and the coordinator then gets through."""
        partition = self.setting.partition
        return at if partition is None else partition.arrival(site, at)

    def next_training(self, site: str) -> tuple[float, int]:
        """Seconds and seed of the site's next training, whose number is used up."""
        number = self.numbers.get(site, 0)
        self.numbers[site] = number + 1
        seconds = self.setting.times.seconds(site, number)
        return seconds, training_seed(self.setting.seed, site, number)

    def _deliver(self, task: Task) -> None:
        trainer = self.setting.trainer
        delta = trainer.delta(
            task.site, task.base, learning_rate=task.learning_rate, seed=task.seed
        )
        fate = self.central.accept(
            task.site,
            delta,
            base_version=task.base_version,
            epoch=task.epoch,
            records=trainer.records(task.site),
            now=self.now,
            alter=self.alter,
            hold=self.synchronous,
            task={"task": task.number, "learning_rate": task.learning_rate.hex()},
        )
        if fate in (Fate.MERGED, Fate.BUFFERED):
            merged = self.counts.merged
            merged[task.site] = merged.get(task.site, 0) + 1
            self.last_local[task.site] = np.add(task.base, delta)
            self.last_deltas = [*self.last_deltas[-15:], (task.site, delta)]
        if not self.synchronous:
            self._dispatch(task.site)
            return
        self._end_round_if_due()

    def _end_round_if_due(self) -> None:
        """The round is over once nobody works: its deltas are merged, the next one begins."""
        if not self.synchronous or self.halted or self.agenda:
            return
        waiting = len(self.central.state.buffered)
        if waiting:
            self.central.flush(self.now, [np.float32(SYNCHRONOUS_RATE / waiting).item()] * waiting)
        self._begin_round()

    def _begin_round(self) -> None:
        for site in self.active:
            self._dispatch(site)

    def _dispatch(self, site: str, *, delay: float = 0.0) -> None:
        if self.halted:
            return
        number, times = self.numbers.get(site, 0), self.setting.times
        seconds, seed = self.next_training(site)
        begins = self.arrival(site, self.now + delay)
        lost = times.drops_out(site, number)
        ends = self.arrival(site, begins + (times.away_s if lost else seconds))
        self._push(
            Task(
                site=site,
                number=number,
                base=np.array(self.central.head),
                base_version=self.central.version,
                epoch=self.central.epoch,
                learning_rate=self.central.learning_rate(synchronous=self.synchronous),
                seed=seed,
                begins=begins,
                ends=ends,
                lost=lost,
            )
        )

    def _push(self, task: Task) -> None:
        heapq.heappush(self.agenda, (task.ends, self.sequence, task))
        self.sequence += 1


def training_seed(seed: int, site: str, number: int) -> int:
    """The seed of a site's task of that number, in a federation of that seed."""
    return derived_seed(seed, "train", site, number)
