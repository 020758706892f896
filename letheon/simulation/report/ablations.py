"""Which methods are variants of which, as the study's file says, and what the change does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from letheon.simulation.config import load_study
from letheon.simulation.report.bars import Shown
from letheon.simulation.report.quantities import QUANTITIES, difference
from letheon.simulation.report.unit_file import UnitFile


def with_bases(units: Sequence[UnitFile], study_file: Path) -> list[UnitFile]:
    """The units with what `variant_of` says in the study's file; as they are if there is none.

    Read from there and not from the results: what is a variant of what changes no number.
    """
    if not study_file.is_file():
        return list(units)
    methods = load_study(study_file).methods
    bases = {method.label: method.variant_of for method in methods if method.variant_of}
    return [unit.model_copy(update={"bases": bases}) for unit in units]


def bases_of(units: Sequence[UnitFile]) -> dict[str, str]:
    """The base of each variant, where both were run."""
    run = {label for unit in units for label in unit.methods()}
    return {
        label: base
        for unit in units
        for label, base in unit.bases.items()
        if label in run and base in run
    }


def principal_of(label: str, bases: Mapping[str, str]) -> str:
    """The method that is no variant, from which this one comes."""
    while label in bases:
        label = bases[label]
    return label


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
