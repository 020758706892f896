"""Equivalence to retraining over seeds: two one-sided tests, not "no significant difference".

D. J. Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.evidence.quantiles import student_above, student_quantile


@dataclass(frozen=True)
class Equivalence:
    """Paired differences, one a seed, against two margins."""

    mean: float
    sd: float  # sample standard deviation; NaN for one difference
    count: int
    ci_low: float  # interval of the mean at 1 - 2 alpha, which decides; infinite for one difference
    ci_high: float
    p_value: float  # the larger of the two one-sided tests'
    equivalent: bool


def tost(
    differences: npt.ArrayLike, low: float, high: float, *, alpha: float = 0.05
) -> Equivalence:
    """Whether the mean of paired differences [n] is shown to lie between `low` < 0 < `high`.

    With an infinite margin it is the test of non-inferiority of the other side. `equivalent`
    means p < alpha, which is the interval of the mean lying inside the margins. One difference
    never shows equivalence. Differences without variance are taken at their word: p is 0 inside
    the margins and 1 elsewhere, so say how many there were. Raises BadData for no difference, one
    that is not finite, margins not around 0 or both infinite, alpha not in (0, 0.5);
    BadConfig without scipy.
    """
    values = np.asarray(differences, dtype=np.float64)
    _check(values, low, high, alpha)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Equivalence(mean, math.nan, 1, -math.inf, math.inf, 1.0, False)
    sd = float(values.std(ddof=1))
    error = sd / math.sqrt(count)
    half = student_quantile(1 - alpha, count - 1) * error
    above_low = _tail(mean - low, error, count - 1)
    below_high = _tail(high - mean, error, count - 1)
    p_value = max(above_low, below_high)
    return Equivalence(mean, sd, count, mean - half, mean + half, p_value, p_value < alpha)


def _check(values: npt.NDArray[np.float64], low: float, high: float, alpha: float) -> None:
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise BadData("equivalence needs at least one difference, and all of them finite")
    if not low < 0 < high or (math.isinf(low) and math.isinf(high)):
        raise BadData(f"equivalence needs margins low < 0 < high, one finite, not {low}, {high}")
    if not 0 < alpha < 0.5:
        raise BadData(f"alpha must lie in (0, 0.5), not {alpha}")


def _tail(distance: float, error: float, freedom: int) -> float:
    """P of the one-sided test that the mean is this far on the right side of a margin."""
    if math.isinf(distance):
        return 0.0
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return student_above(distance / error, freedom)
