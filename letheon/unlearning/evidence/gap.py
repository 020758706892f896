"""The forget-set gap: accuracy and mean loss on erased records against what they should be.

What they should be comes from a model that never saw the records (the lab), or from control
records of the same site that no model was trained on (production). Positive is the member side:
more accurate, or with less loss, than without the subject.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval
from letheon.unlearning.evidence.finding import Finding
from letheon.unlearning.evidence.resampling import Floats, Units, bootstrap, units_of
from letheon.unlearning.evidence.residue import judge_residue


@dataclass(frozen=True)
class Gap:
    """Erased records against their comparison, each with a 95 % bootstrap interval by patient."""

    accuracy: Interval  # erased - comparison, share
    loss: Interval  # comparison - erased, nats
    records: int  # erased
    patients: int  # of the erased records; of records where patients are unknown
    against: str  # "a reference model" | "control records"


def gap_to_reference(
    losses: npt.ArrayLike,
    correct: npt.ArrayLike,
    reference_losses: npt.ArrayLike,
    reference_correct: npt.ArrayLike,
    groups: Sequence[str] | None,
    *,
    resamples: int,
    seed: int,
) -> Gap:
    """Two models on the same n erased records, paired. All arrays [n], `groups` their patients.

    Raises BadData for no record, differing lengths or a loss that is not finite.
    """
    lost, right = _answers("erased", losses, correct)
    other_lost, other_right = _answers("reference", reference_losses, reference_correct)
    if lost.shape != other_lost.shape:
        raise BadData(f"{lost.size} erased records, but {other_lost.size} of the reference model")
    units = units_of(groups, lost.size)
    differing = float((right != other_right).sum())
    # As if one record more differed: models that agree on few records may differ on others.
    error = math.sqrt((differing + 1) / (lost.size + 1) / units.count)
    return Gap(
        _paired(right - other_right, units, error, resamples, seed),
        _paired(other_lost - lost, units, _spread(units.count), resamples, seed),
        lost.size,
        units.count,
        "a reference model",
    )


def gap_to_control(
    losses: npt.ArrayLike,
    correct: npt.ArrayLike,
    control_losses: npt.ArrayLike,
    control_correct: npt.ArrayLike,
    groups: Sequence[str] | None,
    control_groups: Sequence[str] | None,
    *,
    resamples: int,
    seed: int,
) -> Gap:
    """One model on n erased and m control records of the same site. Raises as the other."""
    lost, right = _answers("erased", losses, correct)
    other_lost, other_right = _answers("control", control_losses, control_correct)
    units, others = units_of(groups, lost.size), units_of(control_groups, other_lost.size)
    fewest = min(units.count, others.count)
    # One right and one wrong answer more, so that a share of 0 or 1 is not taken for certain.
    share = (right.sum() + other_right.sum() + 1) / (right.size + other_right.size + 2)
    error = math.sqrt(share * (1 - share) * (1 / units.count + 1 / others.count))
    return Gap(
        _unpaired(right, units, other_right, others, error, resamples, seed),
        _unpaired(-lost, units, -other_lost, others, _spread(fewest), resamples, seed),
        lost.size,
        units.count,
        "control records",
    )


def judge_gap(
    candidate: Gap,
    before: Gap | None,
    *,
    accuracy_margin: float = 0.02,
    loss_margin: float = 0.1,
    null_accuracy: float = 0.0,
    null_loss: float = 0.0,
) -> tuple[Finding, Finding]:
    """The accuracy and the loss, both against gaps of the version before as positive control.

    The nulls are 0, or the gaps of retrained models where erased and control records differ by
    nature; give margins of at least two standard deviations of those over seeds.
    """
    accuracy = judge_residue(
        "forget_set_accuracy",
        candidate.accuracy,
        None if before is None else before.accuracy,
        null=null_accuracy,
        margin=accuracy_margin,
        records=candidate.records,
        unit="share",
    )
    loss = judge_residue(
        "forget_set_loss",
        candidate.loss,
        None if before is None else before.loss,
        null=null_loss,
        margin=loss_margin,
        records=candidate.records,
        unit="nats",
    )
    return accuracy, loss


def _answers(name: str, losses: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Floats]:
    lost, right = np.asarray(losses, np.float64), np.asarray(correct, np.float64)
    if lost.ndim != 1 or lost.size == 0 or right.shape != lost.shape:
        raise BadData(f"{name}: losses and correctness are arrays of the same length, not empty")
    if not np.isfinite(lost).all():
        raise BadData(f"{name}: a loss is not finite")
    return lost, right


def _spread(patients: int) -> float:
    """The least error of a mean: the bootstrap of one patient has no width, and knows nothing."""
    return math.inf if patients == 1 else 0.0


def _paired(values: Floats, units: Units, error: float, resamples: int, seed: int) -> Interval:
    def draw(rng: np.random.Generator) -> float:
        return float(np.average(values, weights=units.resample(rng)))

    low, high = bootstrap(draw, resamples=resamples, seed=seed)
    return Interval(float(values.mean()), low, high, error)


def _unpaired(
    values: Floats,
    units: Units,
    other_values: Floats,
    others: Units,
    error: float,
    resamples: int,
    seed: int,
) -> Interval:
    def draw(rng: np.random.Generator) -> float:
        mean = np.average(values, weights=units.resample(rng))
        return float(mean - np.average(other_values, weights=others.resample(rng)))

    low, high = bootstrap(draw, resamples=resamples, seed=seed)
    return Interval(float(values.mean() - other_values.mean()), low, high, error)
