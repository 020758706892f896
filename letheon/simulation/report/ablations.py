"""Which methods are variants of which: `removal_guard` is `removal` with one thing changed."""

from __future__ import annotations

from collections.abc import Sequence

from letheon.simulation.report.bars import Shown
from letheon.simulation.report.quantities import QUANTITIES, difference
from letheon.simulation.report.unit_file import UnitFile


def base_of(label: str, labels: Sequence[str]) -> str | None:
    """The longest other label that this one goes on from, word by word; None: none."""
    bases = [other for other in labels if label.startswith(f"{other}_")]
    return max(bases, key=len, default=None)


def principal(labels: Sequence[str]) -> list[str]:
    """The labels that are no variant of another."""
    return [label for label in labels if base_of(label, labels) is None]


def paired_differences(units: Sequence[UnitFile], label: str, base: str, key: str) -> list[float]:
    """The variant minus its base, a seed each, where both were measured."""
    measure = QUANTITIES[key].value
    found = (difference(measure(unit, label), measure(unit, base)) for unit in units)
    return [value for value in found if value is not None]


def effect(differences: Sequence[float]) -> str:
    """Whether an effect is seen: the 90 % interval of the mean leaves out 0."""
    from letheon.unlearning.evidence.equivalence import tost

    if len(differences) < 2:
        return str(Shown.NOT_SHOWN)
    found = tost(differences, -1.0, 1.0)  # the margins do not enter the interval
    away = found.ci_low > 0 or found.ci_high < 0
    return str(Shown.DIFFERENT if away else Shown.NOT_SHOWN)
