"""The forget statistic: how much easier a model finds erased records than control records.

Control records are from the same site and were never trained on, so the null is known: no
difference. Numpy only; the agent's training child computes it and only aggregates leave the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.evidence.ranking import Ranking
from letheon.unlearning.evidence.resampling import INTERVAL, Floats, Units, units_of


@dataclass(frozen=True)
class ForgetStatistic:
    """One model version, erased records against control records."""

    erased_records: int
    control_records: int
    auc: float  # of -loss, erased against control; 0.5 = indistinguishable
    auc_low: float  # 95 % bootstrap interval, by patient where patients are known
    auc_high: float
    tpr_at_1pct_fpr: float
    accuracy_erased: float
    accuracy_control: float
    accuracy_gap_low: float  # 95 % bootstrap interval of erased - control
    accuracy_gap_high: float
    mean_loss_erased: float
    mean_loss_control: float


@dataclass(frozen=True)
class _Group:
    """One side of the comparison, with what the bootstrap resamples."""

    scores: Floats  # [n] -loss
    correct: Floats  # [n] 0 or 1
    units: Units


def forget_statistic(
    erased_losses: npt.ArrayLike,
    control_losses: npt.ArrayLike,
    erased_correct: npt.ArrayLike,
    control_correct: npt.ArrayLike,
    erased_patients: Sequence[str] | None,
    control_patients: Sequence[str] | None,
    *,
    resamples: int,
    seed: int,
) -> ForgetStatistic:
    """Compares losses [n] and [m] and correctness of both groups.

    Intervals: percentile bootstrap, resampling patients within each group (records where patients
    are unknown). Raises BadData for an empty group, differing lengths or a loss that is not
    finite.
    """
    erased = _group("erased", erased_losses, erased_correct, erased_patients)
    control = _group("control", control_losses, control_correct, control_patients)
    ranking = Ranking.of(erased.scores, control.scores)
    aucs, gaps = _bootstrap(erased, control, ranking, resamples, seed)
    ones = (np.ones_like(erased.scores), np.ones_like(control.scores))
    auc_low, auc_high = np.percentile(aucs, INTERVAL)
    gap_low, gap_high = np.percentile(gaps, INTERVAL)
    return ForgetStatistic(
        erased_records=len(erased.scores),
        control_records=len(control.scores),
        auc=ranking.auc(*ones),
        auc_low=float(auc_low),
        auc_high=float(auc_high),
        tpr_at_1pct_fpr=ranking.true_positive_rate(*ones),
        accuracy_erased=float(erased.correct.mean()),
        accuracy_control=float(control.correct.mean()),
        accuracy_gap_low=float(gap_low),
        accuracy_gap_high=float(gap_high),
        mean_loss_erased=float(-erased.scores.mean()),
        mean_loss_control=float(-control.scores.mean()),
    )


def coarse(statistic: ForgetStatistic) -> ForgetStatistic:
    """The same of few records, told so that nobody learns how many they are.

    The count goes down to a power of two, which makes every test of it the weaker and none the
    stronger; rates and means have two digits, of which no count of records can be read.
    """
    rounded = {
        name: round(value, 2)
        for name, value in asdict(statistic).items()
        if name not in ("erased_records", "control_records")
    }
    down = 1 << (statistic.erased_records.bit_length() - 1)
    return replace(statistic, erased_records=down, **rounded)


def _group(
    name: str, losses: npt.ArrayLike, correct: npt.ArrayLike, patients: Sequence[str] | None
) -> _Group:
    scores = -np.asarray(losses, dtype=np.float64)
    right = np.asarray(correct, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise BadData(f"the forget statistic needs at least one {name} record", group=name)
    if right.shape != scores.shape or (patients is not None and len(patients) != scores.size):
        raise BadData(f"losses, correctness and patients of {name} differ in length", group=name)
    if not np.isfinite(scores).all():
        raise BadData(f"a loss of the {name} records is not finite", group=name)
    return _Group(scores, right, units_of(patients, scores.size))


def _bootstrap(
    erased: _Group,
    control: _Group,
    ranking: Ranking,
    resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """AUC and accuracy gap of each resample, both [resamples]."""
    if resamples < 1:
        raise BadData("the bootstrap needs at least one resample")
    rng = np.random.default_rng(seed)
    aucs, gaps = np.empty(resamples), np.empty(resamples)
    for index in range(resamples):
        of_erased, of_control = erased.units.resample(rng), control.units.resample(rng)
        aucs[index] = ranking.auc(of_erased, of_control)
        gaps[index] = np.average(erased.correct, weights=of_erased) - np.average(
            control.correct, weights=of_control
        )
    return aucs, gaps
