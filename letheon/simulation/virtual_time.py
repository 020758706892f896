"""Virtual time: when things happen in a simulated federation, and how long local training takes.

Every duration is a function of (seed, site, number of the task): no generator keeps state, so a
federation copied in the middle of a run goes on exactly as the original would.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Distribution = Literal["constant", "lognormal", "pareto"]


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on all parts and on nothing else."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class TrainingTimes:
    """Seconds of virtual time that one local training takes.

    `paces` [seconds] is the median by site. lognormal: pace * exp(spread * normal). pareto:
    pace * (1 + Lomax(shape)) / 2**(1 / shape), a heavy tail with the same median. A task is lost
    with probability `drop_out`, and its site then stays away for `away_s` seconds.
    """

    paces: Mapping[str, float]
    seed: int
    distribution: Distribution = "lognormal"
    spread: float = 0.1
    shape: float = 1.5
    drop_out: float = 0.0
    away_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of range."""
        if not self.paces or min(self.paces.values()) <= 0:
            raise ValueError("paces must be above 0 seconds")
        if self.spread < 0 or self.shape <= 0 or self.away_s < 0 or not 0 <= self.drop_out < 1:
            raise ValueError("spread and away_s are at least 0, shape above 0, drop_out in [0, 1)")

    def seconds(self, site: str, number: int) -> float:
        """Duration of the site's task of that number, above 0."""
        generator = np.random.default_rng(derived_seed(self.seed, "time", site, number))
        match self.distribution:
            case "constant":
                factor = 1.0
            case "lognormal":
                factor = math.exp(self.spread * float(generator.standard_normal()))
            case "pareto":
                factor = (1.0 + float(generator.pareto(self.shape))) / 2 ** (1 / self.shape)
        return self.paces[site] * factor

    def drops_out(self, site: str, number: int) -> bool:
        """Whether the site loses the task of that number."""
        if self.drop_out == 0.0:
            return False
        generator = np.random.default_rng(derived_seed(self.seed, "drop-out", site, number))
        return bool(generator.random() < self.drop_out)


@dataclass(frozen=True)
class Partition:
    """Sites cut off from `start` to `end` [seconds]: their work goes on, nothing gets through."""

    sites: frozenset[str]
    start: float
    end: float

    def arrival(self, site: str, at: float) -> float:
        """When something sent at that time gets through."""
        cut = site in self.sites and self.start <= at < self.end
        return self.end if cut else at
