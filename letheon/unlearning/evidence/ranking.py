"""How well scores tell members from others: ranks, and rates over weighted records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.unlearning.evidence.resampling import Floats

FALSE_POSITIVE_RATE = 0.01
CONTROLS_AT_LEAST = 100  # records not trained on: fewer cannot resolve that rate

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """The place of each score among all distinct scores of both sides, ascending."""

    members: Places  # [n]
    others: Places  # [m]
    levels: int

    @classmethod
    def of(cls, member_scores: Floats, other_scores: Floats) -> Ranking:
        """Ranks scores [n] and [m]; a higher score is more like a member's."""
        both = np.concatenate([member_scores, other_scores])
        levels, places = np.unique(both, return_inverse=True)
        split = len(member_scores)
        return cls(places[:split], places[split:], len(levels))

    def auc(self, member_weights: Floats, other_weights: Floats) -> float:
        """Weighted chance that a member scores above another, ties half (Mann-Whitney)."""
        above = np.bincount(self.members, member_weights, self.levels)
        below = np.bincount(self.others, other_weights, self.levels)
        lower = np.cumsum(below) - below
        pairs = float(member_weights.sum() * other_weights.sum())
        return float(above @ (lower + 0.5 * below)) / pairs

    def true_positive_rate(self, member_weights: Floats, other_weights: Floats) -> float:
        """Weighted share of members above the lowest score that at most 1 % of others exceed.

        With fewer than 100 others that is the highest of their scores.
        """
        others = np.bincount(self.others, other_weights, self.levels)
        exceeding = np.cumsum(others[::-1])[::-1] - others
        # Whole numbers on both sides: 0.01 n may lie below what it should be.
        threshold = int(np.argmax(CONTROLS_AT_LEAST * exceeding <= other_weights.sum()))
        return float(member_weights[self.members > threshold].sum() / member_weights.sum())
