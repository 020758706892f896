"""An erasure in a simulation: what it is asked to do, and what became of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeAlias

from letheon.errors import PatchVoid
from letheon.federation.parameters import Vector
from letheon.simulation.central import Central
from letheon.simulation.sites import Trainer
from letheon.simulation.swap import Recompute
from letheon.simulation.workbench import Workbench
from letheon.unlearning.method import Method


@dataclass(frozen=True)
class At:
    """Until that virtual second."""

    seconds: float


@dataclass(frozen=True)
class Accepted:
    """Until so many versions exist."""

    version: int


@dataclass(frozen=True)
class LaterRemoval:
    """Until a later epoch than that one begins; for ever, if none does."""

    epoch: int


Wait: TypeAlias = At | Accepted | LaterRemoval
Conductor: TypeAlias = Generator[Wait, None, None]


@dataclass(frozen=True)
class Reduced:
    """A site that stays, without the records that are to be forgotten."""

    trainer: Trainer  # of all sites; this one's records are the reduced ones
    recompute: Recompute  # a past delta of the site, on the reduced records
    speed: float = 1.0  # of that; 1: a past training lasts as long as it did


@dataclass
class Erasure:
    """One erasure in a simulation, and what became of it."""

    name: str
    site: str
    method: Method
    workbench: Workbench
    reachable: bool = True  # the target's agent still answers
    calibrate: bool = False
    overwrites: bool = False  # as published: no epoch, the target is only fenced
    subtracted_share: float = 1.0  # below 1: the rest is added back, which no service does
    reduced: Reduced | None = None  # records at a site that stays; none: the whole site
    passed: bool = False  # the gate let it through: a later removal is no affair of it
    epoch: int = 0  # of the snapshot that the method works from
    restarts: int = 0  # later removals that made the method start over
    removed_at: float | None = None
    landed_at: float | None = None  # of the newest change the method made
    finished_at: float | None = None
    failed: str = ""
    readmitted: str = ""  # why the site's records could not leave by an exchange
    uploads: dict[str, tuple[Vector, Vector, int]] = field(default_factory=dict)
    facts: list[dict[str, object]] = field(default_factory=list)

    def check_epoch(self, central: Central) -> None:
        """Raises PatchVoid if a later removal happened since the snapshot.

        A method as published knows no epochs: it writes over whatever the head has become.
        """
        if not self.overwrites and central.epoch != self.epoch:
            raise PatchVoid(f"the head is of epoch {central.epoch} by now", epoch=central.epoch)
