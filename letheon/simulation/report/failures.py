"""Every seed that went wrong, by name: means hide them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from letheon.simulation.report.quantities import QUANTITIES
from letheon.simulation.report.unit_file import UnitFile

BACKDOOR_ABOVE = 10.0  # points above retraining
ACCURACY_BELOW = 3.0  # points below it
_KEYS = (
    "accuracy_60",
    "accuracy_150",
    "disclosed_60",
    "disclosed_max",
    "undisclosed_60",
    "undisclosed_max",
)


@dataclass(frozen=True)
class Failure:
    """One seed of one method with a gap to retraining that a user would notice."""

    label: str
    seed: int
    gaps: dict[str, float]  # by quantity: those beyond the limits, points
    reason: str  # why the method gave up, if it did


def failures_of(units: Sequence[UnitFile]) -> list[Failure]:
    """Backdoor success more than 10 points above retraining, accuracy more than 3 below."""
    found = [
        Failure(label, unit.seed, _beyond(unit, label), unit.runs[label].failed)
        for unit in units
        for label in sorted(unit.methods())
    ]
    failed = [failure for failure in found if failure.gaps or failure.reason]
    return sorted(failed, key=lambda failure: (failure.label, failure.seed))


def _beyond(unit: UnitFile, label: str) -> dict[str, float]:
    gaps = {key: QUANTITIES[key].gap(unit, label) for key in _KEYS}
    return {
        key: gap
        for key, gap in gaps.items()
        if gap is not None
        and (gap < -ACCURACY_BELOW if key.startswith("accuracy") else gap > BACKDOOR_ABOVE)
    }
