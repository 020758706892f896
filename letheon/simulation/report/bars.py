"""The bars a method has to clear, over seeds: one pure function each.

A bar is met when the mean of the gaps to retraining lies inside its limits. Whether the seeds
*show* that is another matter and stands beside it: two one-sided tests with the bar's limits as
margins (`letheon.unlearning.evidence.equivalence`). With one limit it shows "not worse than".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from letheon.simulation.report.quantities import EARLY, LATE, QUANTITIES
from letheon.simulation.report.unit_file import FIRST, Evidence, UnitFile
from letheon.unlearning.evidence.equivalence import tost

FORGET_MARGIN = 3.0  # points; or twice the floor's spread, whichever is more
RELEARN_MARGIN = 15.0  # points
MEMBERSHIP_MARGIN = 0.03  # AUC


class Outcome(StrEnum):
    """How a bar ended."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURABLE = "not measurable"
    INCONCLUSIVE = "inconclusive"  # the positive control did not fire


class Shown(StrEnum):
    """What the seeds show of the mean gap."""

    EQUIVALENT = "equivalent"
    NOT_SHOWN = "not shown"
    DIFFERENT = "different"  # its whole 90 % interval lies outside the limits


@dataclass(frozen=True)
class Bar:
    """One bar of one method over seeds. Gap, spread and limits have the unit named."""

    key: str
    title: str
    unit: str
    value: float | None  # mean gap to retraining
    sd: float | None  # over seeds; None with fewer than two
    seeds: int
    low: float  # infinite: no limit on that side
    high: float
    verdict: Outcome
    shown: Shown | None
    note: str = ""


def judge_gaps(
    key: str, title: str, unit: str, gaps: Sequence[float], *, low: float, high: float
) -> Bar:
    """The bar `low` <= mean of the gaps [seeds] <= `high`. No gap: not measurable."""
    if not gaps:
        return _unmeasured(key, title, unit, low, high)
    mean = statistics.fmean(gaps)
    sd = statistics.stdev(gaps) if len(gaps) > 1 else None
    # Rates have at most five digits: what lies on the limit must not miss it by rounding.
    met = low - 1e-9 <= mean <= high + 1e-9
    verdict = Outcome.MET if met else Outcome.MISSED
    shown = shown_by(gaps, low=low, high=high)
    return Bar(key, title, unit, mean, sd, len(gaps), low, high, verdict, shown)


def shown_by(gaps: Sequence[float], *, low: float, high: float) -> Shown:
    """Equivalent, different, or neither is shown. One seed never shows either."""
    found = tost(gaps, low, high)
    if found.equivalent:
        return Shown.EQUIVALENT
    outside = found.ci_low > high or found.ci_high < low
    return Shown.DIFFERENT if outside else Shown.NOT_SHOWN


def gaps_of(units: Iterable[UnitFile], label: str, key: str) -> list[float]:
    """The gaps of one quantity, a seed each, where they can be measured."""
    measure = QUANTITIES[key].gap
    found = (measure(unit, label) for unit in units if unit.complete and label in unit.runs)
    return [gap for gap in found if gap is not None]


def floors_of(units: Iterable[UnitFile], key: str) -> list[float]:
    """The second retraining against the first, a seed each."""
    found = (QUANTITIES[key].floor(unit) for unit in units if unit.complete)
    return [gap for gap in found if gap is not None]


def accuracy_early(units: Sequence[UnitFile], label: str) -> Bar:
    """Accuracy at +60: at most 2.5 points below retraining."""
    return _bar(units, label, f"accuracy_{EARLY}", low=-2.5)


def accuracy_late(units: Sequence[UnitFile], label: str) -> Bar:
    """Accuracy at +150: at most 1 point below retraining."""
    return _bar(units, label, f"accuracy_{LATE}", low=-1.0)


def worst_site_early(units: Sequence[UnitFile], label: str) -> Bar:
    """No retained site at +60 more than 3 points below its accuracy under retraining."""
    return _bar(units, label, f"worst_site_{EARLY}", low=-3.0)


def worst_site_late(units: Sequence[UnitFile], label: str) -> Bar:
    """The same at +150."""
    return _bar(units, label, f"worst_site_{LATE}", low=-3.0)


def disclosed(units: Sequence[UnitFile], label: str) -> Bar:
    """Backdoor success at +60 at most 2 points above retraining's own base rate."""
    return _bar(units, label, f"disclosed_{EARLY}", high=2.0)


def disclosed_highest(units: Sequence[UnitFile], label: str) -> Bar:
    """Its maximum over the next 100 deltas at most 5 points above that base rate."""
    return _bar(units, label, "disclosed_max", high=5.0)


def undisclosed(units: Sequence[UnitFile], label: str) -> Bar:
    """As `disclosed`, of the trigger no method knows."""
    return _bar(units, label, f"undisclosed_{EARLY}", high=2.0)


def undisclosed_highest(units: Sequence[UnitFile], label: str) -> Bar:
    """As `disclosed_highest`, of the trigger no method knows."""
    return _bar(units, label, "undisclosed_max", high=5.0)


def forget_set(units: Sequence[UnitFile], label: str) -> Bar:
    """Forget-set accuracy at +60 within the larger of 3 points and 2 sd of the floor."""
    key = f"forget_{EARLY}"
    margin = forget_margin(floors_of(units, key))
    return _bar(units, label, key, low=-margin, high=margin)


def forget_margin(floors: Sequence[float]) -> float:
    """Points, on either side."""
    spread = statistics.stdev(floors) if len(floors) > 1 else 0.0
    return max(FORGET_MARGIN, 2 * spread)


def relearning(units: Sequence[UnitFile], label: str) -> Bar:
    """Backdoor success after the fixed steps of relearning, 15 points on either side."""
    return _bar(units, label, f"relearn_{EARLY}", low=-RELEARN_MARGIN, high=RELEARN_MARGIN)


def membership(units: Sequence[UnitFile], label: str) -> Bar:
    """Of an honest target: membership AUC by a reference model within 0.03 of retraining's.

    Inconclusive unless the same attack sees the target in the head before the erasure.
    """
    honest = [unit for unit in units if unit.kind == "honest"]
    margin = MEMBERSHIP_MARGIN
    bar = _bar(honest, label, f"reference_auc_{EARLY}", low=-margin, high=margin)
    if bar.verdict is Outcome.NOT_MEASURABLE or leak_seen(honest):
        return bar
    note = "the attack does not see the target before the erasure either"
    return replace(bar, verdict=Outcome.INCONCLUSIVE, note=note)


def leak_seen(units: Sequence[UnitFile]) -> bool:
    """Positive control: the head before has a higher AUC than retraining, beyond its error.

    The error of the mean over seeds: the larger of that from the 95 % bootstrap intervals and
    that from the spread over seeds.
    """
    found = [pair for unit in units if (pair := _before_and_retrained(unit)) is not None]
    if not found:
        return False
    gaps = [before.reference_auc[0] - own.reference_auc[0] for before, own in found]
    within = [before.reference_auc[0] - before.reference_auc[1] for before, _ in found]
    error = math.sqrt(sum(half * half for half in within)) / len(found)
    if len(gaps) > 1:
        error = max(error, 1.96 * statistics.stdev(gaps) / math.sqrt(len(gaps)))
    return statistics.fmean(gaps) > error


def updates_lost(units: Sequence[UnitFile], label: str) -> Bar:
    """No accepted delta of a retained site is overwritten, in any seed."""
    runs = [unit.runs[label] for unit in units if label in unit.runs]
    lost = [float(run.counts["overwritten"]) for run in runs if "overwritten" in run.counts]
    title = "retained updates lost"
    if not lost:
        return _unmeasured("lost", title, "deltas", -math.inf, 0.0)
    mean, sd = statistics.fmean(lost), statistics.stdev(lost) if len(lost) > 1 else None
    verdict = Outcome.MISSED if any(lost) else Outcome.MET
    # A count is what it is: nothing to test.
    return Bar("lost", title, "deltas", mean, sd, len(lost), -math.inf, 0.0, verdict, None)


Judge = Callable[[Sequence[UnitFile], str], Bar]
BARS: tuple[Judge, ...] = (
    accuracy_early,
    accuracy_late,
    worst_site_early,
    worst_site_late,
    disclosed,
    disclosed_highest,
    undisclosed,
    undisclosed_highest,
    forget_set,
    relearning,
    membership,
    updates_lost,
)


def _bar(
    units: Sequence[UnitFile],
    label: str,
    key: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Bar:
    quantity = QUANTITIES[key]
    gaps = gaps_of(units, label, key)
    return judge_gaps(key, quantity.title, quantity.unit, gaps, low=low, high=high)


def _before_and_retrained(unit: UnitFile) -> tuple[Evidence, Evidence] | None:
    own = unit.evidence(FIRST, EARLY)
    before = None if unit.before is None else unit.before.evidence
    return None if own is None or before is None else (before, own)


def _unmeasured(key: str, title: str, unit: str, low: float, high: float) -> Bar:
    return Bar(key, title, unit, None, None, 0, low, high, Outcome.NOT_MEASURABLE, None)
