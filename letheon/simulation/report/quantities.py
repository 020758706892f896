"""What the report measures of one unit and method, and the gap to retraining, paired by seed.

All rates are in points (1/100). A gap is the method minus the mean of both retrainings with the
same budget of retained deltas; exceptions are said where they are made. The floor is the same
gap of the second retraining against the first: what chance alone does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from letheon.simulation.report.unit_file import (
    FIRST,
    RETRAININGS,
    SECOND,
    Evidence,
    Trigger,
    UnitFile,
)

EARLY, LATE = 60, 150  # retained deltas since the request
RESURFACING = 100  # retained deltas after EARLY in which a backdoor may come back

Value = Callable[[UnitFile, str], float | None]


@dataclass(frozen=True)
class Quantity:
    """A number of a run, and how it is compared."""

    key: str
    title: str
    unit: str
    decimals: int
    value: Value
    gap: Value
    floor: Callable[[UnitFile], float | None]


def accuracy_at(unit: UnitFile, label: str, moment: int) -> float | None:
    """Points, the mean of the looks around the moment."""
    looks = unit.looks(label)
    return _mean_points([looks.accuracy[i] for i in looks.around(moment)])


def success_at(unit: UnitFile, label: str, trigger: Trigger, moment: int) -> float | None:
    """Backdoor success in points; None where nothing was planted."""
    looks = unit.looks(label)
    return _mean_points([looks.success(trigger)[i] for i in looks.around(moment)])


def highest_success(unit: UnitFile, label: str, trigger: Trigger) -> float | None:
    """The highest backdoor success from EARLY on, over RESURFACING deltas; points."""
    looks = unit.looks(label)
    column = looks.success(trigger)
    seen = [column[i] for i in looks.within(EARLY, EARLY + RESURFACING)]
    measured = [share for share in seen if share is not None]
    return _points(max(measured)) if measured and len(measured) == len(seen) else None


def forget_accuracy_at(unit: UnitFile, label: str, moment: int) -> float | None:
    """Of a look: on at most 300 records of the target, labels as trained; points."""
    looks = unit.looks(label)
    return _mean_points([looks.forget_accuracy[i] for i in looks.around(moment)])


def reference(unit: UnitFile, value: Value) -> float | None:
    """The mean of both retrainings; of the first alone while there is no second."""
    found = [value(unit, label) for label in RETRAININGS if label in unit.runs]
    present = [number for number in found if number is not None]
    return sum(present) / len(present) if present and len(present) == len(found) else None


def difference(one: float | None, other: float | None) -> float | None:
    """One minus the other; None if either is missing."""
    return None if one is None or other is None else one - other


def worst_site_gap(unit: UnitFile, label: str, against: Sequence[str], moment: int) -> float | None:
    """The lowest difference in accuracy of any one retained site to the mean of `against`."""
    own = _sites(unit, label, moment)
    others = [_sites(unit, other, moment) for other in against]
    if not own or not others or any(len(sites) != len(own) for sites in others):
        return None
    levels: list[float] = [sum(sites) / len(others) for sites in zip(*others, strict=True)]
    return min(mine - level for mine, level in zip(own, levels, strict=True))


def _sites(unit: UnitFile, label: str, moment: int) -> list[float]:
    looks = unit.looks(label)
    rows = [looks.site_accuracy[i] for i in looks.around(moment)]
    return [100 * sum(shares) / len(rows) for shares in zip(*rows, strict=True)]


def _mean_points(shares: Sequence[float | None]) -> float | None:
    present = [share for share in shares if share is not None]
    return _points(sum(present) / len(present)) if present else None


def _points(share: float | None) -> float | None:
    return None if share is None or not math.isfinite(share) else 100 * share


def _plain(key: str, title: str, value: Value, unit: str = "points") -> Quantity:
    """Compared with the mean of both retrainings."""
    return Quantity(
        key,
        title,
        unit,
        1 if unit == "points" else 3,
        value,
        lambda u, label: difference(value(u, label), reference(u, value)),
        lambda u: difference(value(u, SECOND), value(u, FIRST)),
    )


def _accuracy(moment: int) -> Quantity:
    return _plain(
        f"accuracy_{moment}",
        f"accuracy at +{moment}",
        lambda u, label: accuracy_at(u, label, moment),
    )


def _worst_site(moment: int) -> Quantity:
    def retrainings(unit: UnitFile) -> list[str]:
        return [label for label in RETRAININGS if label in unit.runs]

    return Quantity(
        f"worst_site_{moment}",
        f"worst site at +{moment}",
        "points",
        1,
        lambda u, label: min(_sites(u, label, moment), default=None),
        lambda u, label: worst_site_gap(u, label, retrainings(u), moment),
        lambda u: worst_site_gap(u, SECOND, [FIRST], moment),
    )


def _success(trigger: Trigger) -> Quantity:
    return _plain(
        f"{trigger}_{EARLY}",
        f"backdoor, {trigger}, at +{EARLY}",
        lambda u, label: success_at(u, label, trigger, EARLY),
    )


def _highest(trigger: Trigger) -> Quantity:
    """Against retraining's level at EARLY, not its own maximum: the stricter reading."""

    def early(unit: UnitFile, label: str) -> float | None:
        return success_at(unit, label, trigger, EARLY)

    return Quantity(
        f"{trigger}_max",
        f"backdoor, {trigger}, highest to +{EARLY + RESURFACING}",
        "points",
        1,
        lambda u, label: highest_success(u, label, trigger),
        lambda u, label: difference(highest_success(u, label, trigger), reference(u, early)),
        lambda u: difference(highest_success(u, SECOND, trigger), early(u, FIRST)),
    )


def _of_evidence(read: Callable[[Evidence], float | None], moment: int) -> Value:
    def value(unit: UnitFile, label: str) -> float | None:
        evidence = unit.evidence(label, moment)
        number = None if evidence is None else read(evidence)
        return None if number is None or not math.isfinite(number) else number

    return value


def _relearned(evidence: Evidence) -> float | None:
    return 100 * evidence.relearn[-1] if evidence.relearn else None


def _reference_auc(moment: int) -> Quantity:
    """Against the first retraining alone, whose losses the second calibrates as the method's.

    The second retraining calibrated by the first has just the opposite scores, so the mean of
    both would always be 0.5 and the floor is 1 - 2 AUC.
    """
    value = _of_evidence(lambda e: e.reference_auc[0], moment)
    return Quantity(
        f"reference_auc_{moment}",
        f"membership AUC, reference model, at +{moment}",
        "AUC",
        3,
        value,
        lambda u, label: difference(value(u, label), value(u, FIRST)),
        lambda u: difference(value(u, SECOND), value(u, FIRST)),
    )


def _beside_first(
    key: str, title: str, unit: str, moment: int, read: Callable[[Evidence], float]
) -> Quantity:
    """Itself a comparison with the first retraining: the floor is the second's."""
    value = _of_evidence(read, moment)
    return Quantity(
        f"{key}_{moment}",
        f"{title} at +{moment}",
        unit,
        1 if unit == "points" else 3,
        value,
        lambda u, label: difference(value(u, label), value(u, SECOND)),
        lambda u: value(u, SECOND),
    )


def _evidence_at(moment: int) -> tuple[Quantity, ...]:
    return (
        _plain(
            f"forget_{moment}",
            f"forget-set accuracy at +{moment}",
            _of_evidence(lambda e: 100 * e.forget_accuracy, moment),
        ),
        _plain(
            f"relearn_{moment}",
            f"backdoor after relearning at +{moment}",
            _of_evidence(_relearned, moment),
        ),
        _plain(
            f"loss_auc_{moment}",
            f"membership AUC, loss, at +{moment}",
            _of_evidence(lambda e: e.loss_auc[0], moment),
            "AUC",
        ),
        _reference_auc(moment),
        _beside_first(
            "agreement_test", "agreement, test,", "points", moment, lambda e: 100 * e.agreement_test
        ),
        _beside_first("kl_test", "KL, test,", "nats", moment, lambda e: e.kl_test),
        _beside_first(
            "agreement_forget",
            "agreement, forget set,",
            "points",
            moment,
            lambda e: 100 * e.agreement_forget,
        ),
        _beside_first("kl_forget", "KL, forget set,", "nats", moment, lambda e: e.kl_forget),
    )


UTILITY = (_accuracy(EARLY), _accuracy(LATE), _worst_site(EARLY), _worst_site(LATE))
BACKDOOR = (
    _success("disclosed"),
    _highest("disclosed"),
    _success("undisclosed"),
    _highest("undisclosed"),
)
RESIDUE = {moment: _evidence_at(moment) for moment in (EARLY, LATE)}
QUANTITIES: dict[str, Quantity] = {
    quantity.key: quantity
    for group in (UTILITY, BACKDOOR, RESIDUE[EARLY], RESIDUE[LATE])
    for quantity in group
}
