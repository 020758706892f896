"""Intervals of shares and of their differences that hold for few records and shares near 0 or 1."""

from __future__ import annotations

import math

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval, wilson
from letheon.unlearning.evidence.residue import Z95


def share_interval(share: float, records: int) -> Interval:
    """A share of n independent records with its 95 % interval (E. B. Wilson 1927).

    Raises BadData for a share outside [0, 1] or no record.
    """
    if not 0 <= share <= 1 or records < 1:
        raise BadData(f"{share} is no share of {records} records")
    return Interval(share, *wilson(share, records, Z95), 0.0)


def difference(share: Interval, other: Interval) -> Interval:
    """Share - other of two samples with the errors of both.

    Method 10 of R. G. Newcombe, Statistics in Medicine 17 (1998). For two models on the same
    records it is wider than need be.
    """
    value = share.value - other.value
    below = math.hypot(share.value - share.low, other.high - other.value)
    above = math.hypot(share.high - share.value, other.value - other.low)
    return Interval(value, value - below, value + above, 0.0)
