"""Success of a planted mark: how much of it a model still obeys. For the lab only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval
from letheon.unlearning.evidence.finding import Finding
from letheon.unlearning.evidence.residue import judge_residue
from letheon.unlearning.evidence.shares import difference, share_interval


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
    floor is the share of that class and not the rate of errors. Join the hits of several retrained
    models for a base rate of less error. Raises BadData without records.
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
    """Success above the base rate, at most the margin; before must obey the mark, as control.

    The interval has the errors of both shares. Both versions are held against the base rate of
    the candidate; raises BadData if it has none.
    """
    base = _base(candidate)
    if base is None:
        raise BadData(f"{name}: success means nothing without the base rate of a reference model")
    finding = judge_residue(
        name,
        difference(_success(candidate), base),
        None if before is None else difference(_success(before), base),
        null=0.0,
        margin=margin,
        records=candidate.records,
        unit="share above the base rate",
    )
    rates = f"success {_success(candidate)}, base rate {base}"
    return replace(finding, detail=f"{rates}; above it: {finding.detail}")


def _success(measured: Backdoor) -> Interval:
    return Interval(measured.success, measured.low, measured.high, 0.0)


def _base(measured: Backdoor) -> Interval | None:
    rate, low, high = measured.base_rate, measured.base_low, measured.base_high
    return None if rate is None or low is None or high is None else Interval(rate, low, high, 0.0)


def _share(hits: npt.ArrayLike) -> Interval:
    turned = np.asarray(hits, dtype=np.bool_)
    if turned.ndim != 1 or turned.size == 0:
        raise BadData("the success of a backdoor needs at least one record")
    return share_interval(float(turned.mean()), turned.size)
