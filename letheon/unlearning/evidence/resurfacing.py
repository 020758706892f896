"""Resurfacing: whether a probe rises again while the others train on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval
from letheon.unlearning.evidence.finding import Finding, Verdict
from letheon.unlearning.evidence.residue import judge_residue
from letheon.unlearning.evidence.shares import difference, share_interval


@dataclass(frozen=True)
class Resurfacing:
    """A probe over accepted deltas, from a point such as the gate on."""

    at_value: float  # the probe at that point
    rises: dict[int, float | None]  # by deltas after it: probe - at_value; None: not reached
    peak: float  # highest value from that point on
    peak_at: int  # accepted deltas since the removal, where it was first reached


def resurfacing(
    series: Sequence[tuple[int, float]], *, at: int, after: Sequence[int] = (10, 50, 100)
) -> Resurfacing:
    """From (accepted deltas since the removal, probe value), in ascending order of deltas.

    The value at a number of deltas is that of the first measurement at or after it. Raises
    BadData for a series out of order, values that are not finite, or none at or after `at`.
    """
    places = [place for place, _ in series]
    if any(late <= early for early, late in pairwise(places)):
        raise BadData("resurfacing: the measurements are not in ascending order of deltas")
    if not all(math.isfinite(value) for _, value in series):
        raise BadData("resurfacing: a value of the probe is not finite")
    first = _at_or_after(series, at)
    if first is None:
        raise BadData(f"resurfacing: nothing was measured at or after {at} deltas")
    reached = {steps: _at_or_after(series, at + steps) for steps in after}
    rises = {steps: None if v is None else v - first for steps, v in reached.items()}
    peak_at, peak = max(((p, v) for p, v in series if p >= at), key=lambda point: point[1])
    return Resurfacing(first, rises, peak, peak_at)


def judge_resurfacing(
    measured: Resurfacing,
    before: float | None,
    *,
    records: int,
    after: int = 50,
    margin: float = 0.01,
) -> Finding:
    """The rise after `after` deltas, for a probe that is a share of `records`.

    `before` is the probe on the version before the erasure: that it was higher than at the start
    of the series, by more than the margin, is the positive control. Inconclusive if the series
    ended too early. Raises BadData for a share outside [0, 1] or an `after` not asked for.
    """
    if after not in measured.rises:
        raise BadData(f"resurfacing after {after} deltas was not asked for")
    rise = measured.rises[after]
    name = f"resurfacing_{after}"
    if rise is None:
        return _too_short(name, records, margin, after)
    start = measured.at_value
    return judge_residue(
        name,
        _rise(start + rise, start, records),
        None if before is None else _rise(before, start, records),
        null=0.0,
        margin=margin,
        records=records,
        unit="share",
    )


def _at_or_after(series: Sequence[tuple[int, float]], place: int) -> float | None:
    return next((value for where, value in series if where >= place), None)


def _rise(share: float, start: float, records: int) -> Interval:
    # Rounded, since a rise added to its start may exceed 1 by a bit.
    return difference(*(share_interval(round(p, 12), records) for p in (share, start)))


def _too_short(name: str, records: int, margin: float, after: int) -> Finding:
    return Finding(
        name=name,
        value=math.nan,
        low=-math.inf,
        high=math.inf,
        null_low=-margin,
        null_high=margin,
        positive_control=None,
        control_fired=None,
        verdict=Verdict.INCONCLUSIVE,
        records=records,
        unit="share",
        detail=f"the series ends before {after} deltas",
    )
