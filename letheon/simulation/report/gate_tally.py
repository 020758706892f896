"""The production gate against what the laboratory knows: was it right to pass, or not to?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.simulation.report.bars import floors_of, forget_margin
from letheon.simulation.report.quantities import (
    EARLY,
    Value,
    accuracy_at,
    difference,
    forget_accuracy_at,
    reference,
    success_at,
)
from letheon.simulation.report.time_to_bar import ACCURACY_MARGIN, BACKDOOR_MARGIN
from letheon.simulation.report.unit_file import FIRST, SECOND, Attempt, Trigger, UnitFile

EXACT = 1e-9  # what lies on a limit must not miss it by rounding
TRIGGERS: tuple[Trigger, ...] = ("disclosed", "undisclosed")


@dataclass(frozen=True)
class GateCase:
    """The gate's last attempt on one seed, and the bars at that moment."""

    seed: int
    accepted: int  # retained deltas
    seconds: float  # virtual, since the request
    passed: bool
    verified: bool  # a forgetting test passed
    missed: tuple[str, ...]  # bars missed at that moment

    @property
    def wrong_pass(self) -> bool:
        """Passed although bars were missed."""
        return self.passed and bool(self.missed)

    @property
    def wrong_failure(self) -> bool:
        """Never passed although, at the last attempt, all bars were met."""
        return not self.passed and not self.missed


@dataclass(frozen=True)
class GateTally:
    """Of one method, over seeds."""

    cases: tuple[GateCase, ...]
    never_asked: int  # the method failed or had not ended within the window

    @property
    def passed(self) -> int:
        """Seeds in which the gate passed."""
        return sum(case.passed for case in self.cases)

    @property
    def wrong_passes(self) -> tuple[GateCase, ...]:
        """Seeds with a wrong pass."""
        return tuple(case for case in self.cases if case.wrong_pass)

    @property
    def wrong_failures(self) -> tuple[GateCase, ...]:
        """Seeds with a wrong failure."""
        return tuple(case for case in self.cases if case.wrong_failure)


def tally_gate(units: Sequence[UnitFile], label: str) -> GateTally:
    """Over the units of one kind of target."""
    margin = forget_margin(floors_of(units, f"forget_{EARLY}"))
    known = [unit for unit in units if unit.complete and label in unit.runs]
    cases = [_case(unit, label, margin) for unit in known if unit.runs[label].gate]
    return GateTally(tuple(cases), len(known) - len(cases))


def floor_missed(units: Sequence[UnitFile]) -> tuple[int, int]:
    """Units in which the second retraining misses these bars against the first, of how many."""
    margin = forget_margin(floors_of(units, f"forget_{EARLY}"))
    known = [unit for unit in units if unit.complete and SECOND in unit.runs]
    missed = [bool(_missed(unit, SECOND, EARLY, margin, against=FIRST)) for unit in known]
    return sum(missed), len(known)


def _case(unit: UnitFile, label: str, margin: float) -> GateCase:
    last: Attempt = unit.runs[label].gate[-1]
    return GateCase(
        unit.seed,
        last.accepted,
        last.seconds,
        last.verdict == "pass",
        last.verified,
        _missed(unit, label, last.accepted, margin),
    )


def _missed(
    unit: UnitFile, label: str, accepted: int, margin: float, against: str | None = None
) -> tuple[str, ...]:
    """Accuracy, both triggers and the forget set, each over the looks around the moment."""

    def gap(value: Value) -> float:
        level = reference(unit, value) if against is None else value(unit, against)
        found = difference(value(unit, label), level)
        return math.nan if found is None else found  # fails every comparison: missed

    def success(trigger: Trigger) -> Value:
        return lambda u, run: success_at(u, run, trigger, accepted)

    triggers = TRIGGERS if unit.kind == "backdoored" else ()
    held = {
        "accuracy": gap(lambda u, run: accuracy_at(u, run, accepted)) >= -ACCURACY_MARGIN - EXACT,
        **{f"backdoor, {t}": gap(success(t)) <= BACKDOOR_MARGIN + EXACT for t in triggers},
        "forget set": abs(gap(lambda u, run: forget_accuracy_at(u, run, accepted)))
        <= margin + EXACT,
    }
    return tuple(bar for bar, met in held.items() if not met)
