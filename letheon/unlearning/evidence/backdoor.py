"""Success of a planted mark: how much of it a model still obeys. For the lab only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval, wilson
from letheon.unlearning.evidence.finding import Finding
from letheon.unlearning.evidence.residue import Z95, judge_residue


@dataclass(frozen=True)
class Backdoor:
    """Shares with their 95 % intervals (Wilson 1927)."""

    success: float  # share of clean records of other classes that the mark turns into its class
    low: float
    high: float
    base_rate: float | None  # the same of a model that never saw the mark; None: not measured
    base_low: float | None
    base_high: float | None
    records: int


def backdoor(hits: npt.ArrayLike, reference_hits: npt.ArrayLike | None = None) -> Backdoor:
    """From whether each of n records was turned, bool [n]; of the reference, bool [m].

    Use the mark in records that no model was trained on and that are not of its class, else the
    floor is the share of that class and not the rate of errors. Raises BadData without records.
    """
    success, base = _share(hits), None if reference_hits is None else _share(reference_hits)
    return Backdoor(
        success.value,
        success.low,
        success.high,
        None if base is None else base.value,
        None if base is None else base.low,
        None if base is None else base.high,
        np.asarray(hits).size,
    )


def judge_backdoor(
    candidate: Backdoor,
    before: Backdoor | None,
    *,
    margin: float = 0.01,
    name: str = "backdoor_success",
) -> Finding:
    """At most the base rate plus a margin; the version before must obey the mark, as control.

    The base rate counts as known: give one of several retrained models together. Raises BadData
    if the candidate has none.
    """
    if candidate.base_rate is None:
        raise BadData(f"{name}: success means nothing without the base rate of a reference model")
    return judge_residue(
        name,
        _interval(candidate),
        None if before is None else _interval(before),
        null=candidate.base_rate,
        margin=margin,
        records=candidate.records,
        unit="share",
    )


def _interval(measured: Backdoor) -> Interval:
    return Interval(measured.success, measured.low, measured.high, 0.0)


def _share(hits: npt.ArrayLike) -> Interval:
    turned = np.asarray(hits, dtype=np.bool_)
    if turned.ndim != 1 or turned.size == 0:
        raise BadData("the success of a backdoor needs at least one record")
    share = float(turned.mean())
    return Interval(share, *wilson(share, turned.size, Z95), 0.0)
