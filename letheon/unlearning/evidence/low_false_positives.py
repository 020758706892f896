"""Members found at 1 % false positives: what an attacker is sure of (Carlini et al., 2112.03570).

An AUC near 0.5 may hide a few records that are found with certainty; this rate does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval
from letheon.unlearning.evidence.finding import Finding
from letheon.unlearning.evidence.quantiles import beta_quantile
from letheon.unlearning.evidence.ranking import CONTROLS_AT_LEAST, FALSE_POSITIVE_RATE, Ranking
from letheon.unlearning.evidence.resampling import units_of
from letheon.unlearning.evidence.residue import judge_residue


@dataclass(frozen=True)
class LowFalsePositives:
    """The rate with exact 95 % bounds (Clopper and Pearson 1934), a patient as one record."""

    tpr: float  # share of members above the threshold that 1 % of others exceed
    low: float
    high: float
    fpr_high: float  # upper bound of the true false positive rate at that threshold
    members: int
    others: int

    @property
    def resolved(self) -> bool:
        """Whether the controls are enough to place a threshold at 1 %."""
        return self.others >= CONTROLS_AT_LEAST


def low_false_positives(
    member_scores: npt.ArrayLike,
    other_scores: npt.ArrayLike,
    member_groups: Sequence[str] | None = None,
    other_groups: Sequence[str] | None = None,
) -> LowFalsePositives:
    """From scores [n] of members and [m] of others, higher for a likelier member.

    Raises BadData for an empty side, differing lengths or a score that is not finite.
    """
    members, others = np.asarray(member_scores, float), np.asarray(other_scores, float)
    if members.ndim != 1 or others.ndim != 1:
        raise BadData("scores are one number a record")
    member_units = units_of(member_groups, members.size).count
    other_units = units_of(other_groups, others.size).count
    if not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise BadData("a membership score is not finite")
    ones = np.ones(members.size), np.ones(others.size)
    tpr = Ranking.of(members, others).true_positive_rate(*ones)
    above = (others.size // CONTROLS_AT_LEAST) / others.size
    low, high = clopper_pearson(tpr, member_units)
    _, fpr_high = clopper_pearson(above, other_units)
    return LowFalsePositives(tpr, low, high, fpr_high, members.size, others.size)


def clopper_pearson(share: float, records: int) -> tuple[float, float]:
    """Exact 95 % interval of a share of n records, by quantiles of the beta distribution."""
    hits = share * records
    low = beta_quantile(0.025, hits, records - hits + 1) if hits > 0 else 0.0
    high = beta_quantile(0.975, hits + 1, records - hits) if hits < records else 1.0
    return low, high


def judge_low_false_positives(
    candidate: LowFalsePositives,
    before: LowFalsePositives | None,
    *,
    retrained: float = FALSE_POSITIVE_RATE,
    margin: float = FALSE_POSITIVE_RATE,
    name: str = "membership_tpr",
) -> Finding:
    """At most the rate of a retrained model (or 1 %) plus a margin; before must exceed it.

    The margin is at least what the controls leave open about their own rate. With fewer than 100
    controls on either version the control cannot fire: inconclusive.
    """
    slack = max(margin, candidate.fpr_high - FALSE_POSITIVE_RATE)
    usable = before if before is not None and before.resolved and candidate.resolved else None
    return judge_residue(
        name,
        _interval(candidate),
        None if usable is None else _interval(usable),
        null=retrained,
        margin=slack,
        records=candidate.members,
        unit="share",
    )


def _interval(measured: LowFalsePositives) -> Interval:
    return Interval(measured.tpr, measured.low, measured.high, 0.0)
