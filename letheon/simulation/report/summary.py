"""A study in numbers: what page, pictures and terminal all read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from letheon.simulation.report.ablations import bases_of
from letheon.simulation.report.bars import BARS, Bar, Outcome, floors_of, gaps_of, leak_seen
from letheon.simulation.report.failures import Failure, failures_of
from letheon.simulation.report.gate_tally import GateTally, floor_missed, tally_gate
from letheon.simulation.report.quantities import QUANTITIES
from letheon.simulation.report.time_to_bar import TimeToBar, time_bar, time_to_bar
from letheon.simulation.report.unit_file import (
    RETRAININGS,
    Kind,
    UnitFile,
    labels_of,
    ordered,
    read_units,
)


@dataclass(frozen=True)
class Spread:
    """Numbers over seeds."""

    mean: float
    sd: float | None  # sample standard deviation; None with one seed
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None without values."""
        if not values:
            return None
        sd = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), sd, len(values))


@dataclass(frozen=True)
class Compared:
    """One quantity: as measured, and as a gap to retraining paired by seed."""

    value: Spread | None
    gap: Spread | None


@dataclass(frozen=True)
class MethodSummary:
    """One method on one kind of target, over seeds."""

    label: str
    seeds: int
    figures: dict[str, Compared]  # by quantity
    bars: tuple[Bar, ...]
    time: TimeToBar
    gate: GateTally
    moments: dict[str, Spread | None]  # seconds since the request
    counts: dict[str, Spread | None]  # tasks or deltas a seed
    gave_up: tuple[str, ...]  # reasons
    variant_of: str | None = None  # another method of the same group

    @property
    def met(self) -> int:
        """Bars met."""
        return sum(bar.verdict is Outcome.MET for bar in self.bars)

    @property
    def measured(self) -> int:
        """Bars that could be judged."""
        return sum(bar.verdict in (Outcome.MET, Outcome.MISSED) for bar in self.bars)


@dataclass(frozen=True)
class Group:
    """Some images and one kind of target."""

    images: str
    kind: Kind
    seeds: tuple[int, ...]
    retrained: dict[str, Spread | None]  # by quantity: all retrainings pooled
    floor: dict[str, Spread | None]  # the second retraining against the first
    before: dict[str, Spread | None]  # the head at the request: accuracy and probes, points
    leak_seen: bool  # positive control of the membership attack
    floor_missed: tuple[int, int]  # the gate's bars missed by the second retraining, of how many
    methods: tuple[MethodSummary, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Summary:
    """A folder of unit files."""

    study: str
    settings: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...]  # what is incomplete

    def to_json(self) -> dict[str, Any]:
        """Plain objects; a number that is not finite becomes null."""
        told: dict[str, Any] = _finite(asdict(self))
        return told


def summarise(folder: Path) -> Summary:
    """Of all unit files in a folder. Raises BadData as `read_units`; an empty folder is noted."""
    return summarise_units(read_units(folder))


def summarise_units(units: Sequence[UnitFile]) -> Summary:
    """The same of units in any order."""
    units = ordered(units)
    if not units:
        return Summary("", "", (), ("no unit file was found",))
    groups = sorted({(unit.images, unit.kind) for unit in units})
    return Summary(
        units[0].study,
        units[0].settings,
        tuple(_group(units, images, kind) for images, kind in groups),
        tuple(_notes(units)),
    )


def units_in(units: Sequence[UnitFile], images: str, kind: Kind) -> list[UnitFile]:
    """The complete units of one group."""
    return [u for u in units if (u.images, u.kind) == (images, kind) and u.complete]


def _group(units: Sequence[UnitFile], images: str, kind: Kind) -> Group:
    mine = units_in(units, images, kind)
    return Group(
        images,
        kind,
        tuple(unit.seed for unit in mine),
        {key: Spread.of(_values(mine, RETRAININGS, key)) for key in QUANTITIES},
        {key: Spread.of(floors_of(mine, key)) for key in QUANTITIES},
        _before(mine),
        leak_seen(mine),
        floor_missed(mine),
        tuple(_method(mine, label) for label in labels_of(mine)),
        tuple(failures_of(mine)),
    )


def _method(units: Sequence[UnitFile], label: str) -> MethodSummary:
    mine = [unit for unit in units if label in unit.runs]
    runs = [unit.runs[label] for unit in mine]
    moments = ("removed", "landed", "finished", "end")
    gate = tally_gate(units, label)
    passes = [case.seconds for case in gate.cases if case.passed]
    return MethodSummary(
        label,
        len(mine),
        {key: _compared(mine, label, key) for key in QUANTITIES},
        (*(judge(units, label) for judge in BARS), time_bar(units, label)),
        time_to_bar(units, label),
        gate,
        {
            **{
                name: Spread.of([s for r in runs if (s := r.moments.get(name)) is not None])
                for name in moments
            },
            "gate": Spread.of(passes),
        },
        {
            name: Spread.of([float(r.counts[name]) for r in runs if name in r.counts])
            for name in ("superseded", "stalled", "overwritten")
        },
        tuple(sorted({run.failed for run in runs if run.failed})),
        bases_of(units).get(label),
    )


def _compared(units: Sequence[UnitFile], label: str, key: str) -> Compared:
    return Compared(
        Spread.of(_values(units, (label,), key)),
        Spread.of(gaps_of(units, label, key)),
    )


def _values(units: Sequence[UnitFile], labels: Sequence[str], key: str) -> list[float]:
    measure = QUANTITIES[key].value
    found = (measure(u, label) for u in units for label in labels if label in u.runs)
    return [number for number in found if number is not None]


def _before(units: Sequence[UnitFile]) -> dict[str, Spread | None]:
    looks = [unit.before.look for unit in units if unit.before is not None]
    return {
        name: Spread.of([100 * s for look in looks if (s := getattr(look, name)) is not None])
        for name in ("accuracy", "disclosed", "undisclosed")
    }


def _notes(units: Sequence[UnitFile]) -> list[str]:
    told = [
        f"{unit.name}: left out, nothing to compare with yet (no retraining)"
        for unit in units
        if not unit.complete
    ]
    told += [
        f"{unit.name}: one retraining only, so its floor is unknown"
        for unit in units
        if unit.complete and RETRAININGS[1] not in unit.runs
    ]
    for images, kind in sorted({(unit.images, unit.kind) for unit in units}):
        mine = units_in(units, images, kind)
        if len(mine) == 1:
            told.append(f"{images}, {kind}: one seed, so nothing can be shown, only seen")
        for label in labels_of(mine):
            missing = [str(unit.seed) for unit in mine if label not in unit.runs]
            if missing:
                told.append(f"{images}, {kind}: {label} is missing for seed {', '.join(missing)}")
    for images in sorted({unit.images for unit in units}):
        kinds = {unit.kind for unit in units if unit.images == images}
        told += [f"{images}: no {kind} units" for kind in _absent(kinds)]
    return told


def _absent(kinds: set[Kind]) -> list[str]:
    return [kind for kind in ("backdoored", "honest") if kind not in kinds]


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
