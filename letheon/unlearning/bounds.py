"""Confidence bounds of the gate's forgetting tests. Pure functions on numbers.

Repeated looks. One erasure makes up to `max_attempts` (20) attempts with three tests each, and one
test that passes by chance would certify a method that only suppresses. Two levels hold that below
1 % an erasure:

- the version before is audited once an erasure, so attempts do not multiply the chance that a
  positive control fires without any membership: three tests at `CONTROL_Z`, 0.3 % in all;
- a drop must exceed the bounds of both versions. If nothing dropped, the difference has the error
  of two audits, so one look passes by chance with probability Phi(-(CONTROL_Z + DROP_Z) / sqrt 2),
  6e-5; over 3 x 20 looks 0.4 % (union bound; looks at the same records correlate, which lowers it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.evidence.ranking import FALSE_POSITIVE_RATE

CONTROL_Z = 3.09  # 99.9 % quantile of the normal distribution
DROP_Z = 2.33  # 99 % quantile
_INTERVAL_Z = 1.96  # of the two-sided 95 % intervals in a forget statistic


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval, and its standard error under the null."""

    value: float
    low: float
    high: float
    null_error: float

    def lower(self, z: float) -> float:
        """One-sided lower bound at a normal quantile."""
        return self.value - z * max((self.value - self.low) / _INTERVAL_Z, self.null_error)

    def upper(self, z: float) -> float:
        """One-sided upper bound at a normal quantile."""
        return self.value + z * max((self.high - self.value) / _INTERVAL_Z, self.null_error)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc_of(statistic: ForgetStatistic) -> Interval:
    """The AUC of losses.

    The error under the null is that of Mann and Whitney's U: a bootstrap of few, separated records
    has no width at all.
    """
    return Interval(statistic.auc, statistic.auc_low, statistic.auc_high, _auc_error(statistic))


def gap_of(statistic: ForgetStatistic) -> Interval:
    """Accuracy on erased minus control records, with the error of two shares of one pool."""
    erased, control = statistic.erased_records, statistic.control_records
    right = statistic.accuracy_erased * erased + statistic.accuracy_control * control
    share = min(max(right / (erased + control), 0.0), 1.0)
    return Interval(
        statistic.accuracy_erased - statistic.accuracy_control,
        statistic.accuracy_gap_low,
        statistic.accuracy_gap_high,
        math.sqrt(share * (1 - share) * (1 / erased + 1 / control)),
    )


def _auc_error(statistic: ForgetStatistic) -> float:
    erased, control = statistic.erased_records, statistic.control_records
    return math.sqrt((erased + control + 1) / (12 * erased * control))


def design_effect(statistic: ForgetStatistic) -> float:
    """By how much records of one patient count for less than independent ones; at least 1.

    The variance of the bootstrap by patient against that of independent records. A share of n
    records then has the error of n / effect records (Kish, Survey Sampling, 1965).
    """
    error = (statistic.auc_high - statistic.auc_low) / (2 * _INTERVAL_Z)
    return max(1.0, (error / _auc_error(statistic)) ** 2)


def wilson(share: float, records: float, z: float) -> tuple[float, float]:
    """Lower and upper bound of a share (Wilson 1927), each one-sided at the normal quantile z."""
    weight = z * z / records
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / records + weight / (4 * records)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def true_positives(statistic: ForgetStatistic, z: float) -> tuple[float, float]:
    """Lower and upper bound of the rate of true positives, each one-sided at a normal quantile."""
    return wilson(statistic.tpr_at_1pct_fpr, _weighed(statistic, statistic.erased_records), z)


def false_positives_at_most(statistic: ForgetStatistic, z: float) -> float:
    """Upper bound of the true rate of false positives at the threshold the controls gave."""
    controls = statistic.control_records
    above = math.floor(controls * FALSE_POSITIVE_RATE)
    return wilson(above / controls, _weighed(statistic, controls), z)[1]


def _weighed(statistic: ForgetStatistic, records: int) -> float:
    """How many independent records that many are worth."""
    return records / design_effect(statistic)
