"""Kinds of fault, and the schedule: a pure function of the seed."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibrator.domain.progress import Stage

from .world import CALIBRATORS, Settings

ROOT = Path(__file__).parents[3]
_REACH = re.compile(r"""\breach\(\s*f?["']([a-z0-9_.{}]+)["']\s*\)""")
_PACKAGES = ("coordinator", "calibrator", "client_agent", "letheon")
# Points whose name says that something was just written: where a full disk shows.
_WRITTEN = frozenset({"appended", "moved", "published", "put", "staged", "stored", "trained"})
_WEIGHTS = {
    "point": 34,
    "kill": 10,
    "pause": 4,
    "clock": 5,
    "cut": 6,
    "refuse": 3,
    "hold": 3,
    "slow": 4,
    "replay": 8,
    "redis_kill": 3,
    "redis_flush": 3,
    "erasure": 8,
    "consent": 2,
    "poison": 2,
    "damage": 5,
    "damage_stopped": 5,
}
_POSTGRES = {"postgres": 5}


@dataclass(frozen=True, order=True)
class Point:
    """A named place in the code of one package."""

    package: str
    name: str

    @property
    def writes(self) -> bool:
        """Whether a disk may be full there."""
        return self.name.rpartition(".")[2] in _WRITTEN


@dataclass(frozen=True)
class Fault:
    """One fault; `chance` in [0, 1) picks among what there is when its time comes."""

    kind: str
    target: str
    seconds: float  # how long it lasts, where it lasts
    pause_s: float  # until the next one
    chance: float
    variant: str = ""
    point: Point | None = None

    def __str__(self) -> str:
        named = f"{self.point.name} {self.variant}" if self.point else self.variant
        words = (self.kind, self.target, named.strip(), f"{self.seconds:.1f} s")
        return " ".join(word for word in words if word)


def known_points(root: Path = ROOT) -> tuple[Point, ...]:
    """Every named point in the sources of the services and the library."""
    found = {
        Point(package, name.replace("{stage}", stage.value))
        for package in _PACKAGES
        for source in (root / package).rglob("*.py")
        if source.name != "faults.py"
        for name in _REACH.findall(source.read_text(encoding="utf-8"))
        for stage in Stage
    }
    return tuple(sorted(found))


def schedule(
    seed: int, federation: int, count: int, points: Sequence[Point], *, postgres: bool
) -> tuple[Settings, list[Fault]]:
    """Settings and faults of one federation of a run."""
    rng = random.Random(f"{seed}/{federation}")
    settings = Settings.drawn(rng)
    weights = {**_WEIGHTS, **(_POSTGRES if postgres else {})}
    kinds = rng.choices(list(weights), list(weights.values()), k=count)
    deck = _deck(seed, federation, count, points)
    return settings, [_drawn(rng, kind, settings, deck) for kind in kinds]


def _deck(seed: int, federation: int, count: int, points: Sequence[Point]) -> list[Point]:
    """The points of a federation: dealt from one shuffled pack, so that all have their turn."""
    pack = list(points)
    random.Random(seed).shuffle(pack)
    share = count // 2
    return [pack[(federation * share + n) % len(pack)] for n in range(count)] if pack else []


def _drawn(rng: random.Random, kind: str, settings: Settings, deck: list[Point]) -> Fault:
    point, variant, target = None, "", ""
    sites = settings.sites
    seconds = rng.uniform(0.5, 2.5)
    match kind:
        case "point" if deck:
            point = deck.pop(0)
            variant = rng.choice(("kill", "kill", "full")) if point.writes else "kill"
            target = _process(rng, point.package, sites)
        case "kill" | "clock":
            target = rng.choice(("coordinator", "coordinator", *CALIBRATORS, *sites))
            variant = rng.choice(("-86400", "-3600", "3600", "86400")) if kind == "clock" else ""
        case "pause":
            target = rng.choice(("coordinator", *CALIBRATORS, *CALIBRATORS))
            seconds += 5.0 if target in CALIBRATORS else 0.0  # longer than its lease
        case "cut" | "refuse" | "hold" | "slow":
            target = rng.choice((*sites, *CALIBRATORS, "coordinator-redis", "calibrator-1-redis"))
        case "replay":
            target = rng.choice((*sites, *CALIBRATORS))
            variant = str(rng.randrange(6))  # connections ago: 0 duplicates, more reorders
        case "erasure":
            variant = rng.choice(("plain", "resent", "cancelled", "without redis"))
        case "damage" | "damage_stopped":
            variant = rng.choice(("truncated", "flipped"))
        case "poison":
            variant = str(rng.randrange(4))
    pause_s = rng.uniform(0.2, 1.0)
    return Fault(kind, target, seconds, pause_s, rng.random(), variant, point)


def _process(rng: random.Random, package: str, sites: tuple[str, ...]) -> str:
    """The process that may reach a point; `calibrators` is whichever comes first."""
    match package:
        case "coordinator":
            return "coordinator"
        case "calibrator":
            return "calibrators"
        case "client_agent":
            return rng.choice(sites)
    return rng.choice(("coordinator", "calibrators", *sites))
