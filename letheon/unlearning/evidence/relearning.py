"""Relearning: how fast a few steps on erased records bring a probe back.

Faster than a retrained model: a residue is there. Slower: the model over-forgot, which is a trace
of its own. Weak alone: a model that only suppresses may relearn at the usual pace.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from letheon.errors import BadData
from letheon.imaging.records import Indices, Records
from letheon.unlearning.evidence.equivalence import Equivalence, tost
from letheon.unlearning.evidence.finding import Finding, Verdict

if TYPE_CHECKING:
    from torch import nn

RATIO_BAND = (0.85, 1.3)  # V8 of the project's study of verification
_SEEDS_AT_LEAST = 2


def relearn(
    module: nn.Module,
    records: Records,
    probe: Callable[[nn.Module], float],
    *,
    steps: int = 4,
    learning_rate: float = 5e-3,
    batch_size: int = 16,
    seed: int,
) -> tuple[float, ...]:
    """The probe after 0, 1, ..., `steps` steps of plain SGD on the records, on a copy.

    Batches without replacement within a pass. Same weights, records and seed give the same
    values. Raises BadData without records or for a number below 1.
    """
    from letheon.imaging.local_training import LocalTraining, train_locally

    if len(records) == 0:
        raise BadData("there are no records to relearn")
    if min(steps, batch_size) < 1 or not learning_rate > 0:
        raise BadData("relearning: steps and batch size are at least 1, the rate is above 0")
    pupil = copy.deepcopy(module)
    values = [probe(pupil)]
    for step, rows in enumerate(_batches(len(records), steps, batch_size, seed)):
        one_step = LocalTraining(
            steps=1,
            batch_size=len(rows),
            learning_rate=learning_rate,
            momentum=0.0,
            clip_norm=None,
        )
        train_locally(pupil, records.select(rows), one_step, seed + step)
        values.append(probe(pupil))
    return tuple(values)


def steps_to(values: Sequence[float], level: float) -> float | None:
    """Steps until a rising probe first reaches the level, interpolated; None: it never did.

    `values` after 0, 1, ... steps. For a loss, which falls, give its negative.
    """
    if values and values[0] >= level:
        return 0.0
    for step, (low, high) in enumerate(pairwise(values)):
        if low < level <= high:
            return step + (level - low) / (high - low)
    return None


def relearn_ratio(
    values: Sequence[float], retrained: Sequence[float], *, level: float
) -> float | None:
    """Steps to the level divided by those of a retrained model of the same seed.

    Below 1: relearned faster. None if either never reached the level, or the retrained model had
    it from the start: the level is then of no use.
    """
    steps, reference = steps_to(values, level), steps_to(retrained, level)
    if steps is None or not reference:
        return None
    return steps / reference


def judge_relearning(
    ratios: Sequence[float | None],
    before: Sequence[float | None],
    *,
    band: tuple[float, float] = RATIO_BAND,
    records: int,
) -> Finding:
    """Ratios of several seeds against a band around 1, by the 95 % t interval of their mean.

    Pass: the interval lies in the band. Fail: it lies outside, on either side. The version before
    must lie below the band, as control. Seeds that gave no ratio are left out and counted in the
    detail; with fewer than two left it is inconclusive. Raises BadData for a band not around 1.
    """
    low, high = band
    measured, control = _mean(ratios, band), _mean(before, band)
    fired = None if control is None else 1 + control.ci_high < low
    verdict, words = _verdict(measured, fired, band)
    silent = sum(ratio is None for ratio in ratios)
    value, ends = _numbers(measured)
    detail = f"ratio {value:.2f} [{ends[0]:.2f}, {ends[1]:.2f}] over {len(ratios) - silent} seeds"
    if silent:
        detail += f", {silent} more without one"
    return Finding(
        name="relearn_ratio",
        value=value,
        low=ends[0],
        high=ends[1],
        null_low=low,
        null_high=high,
        positive_control=None if control is None else 1 + control.mean,
        control_fired=fired,
        verdict=verdict,
        records=records,
        unit="ratio",
        detail=f"{detail}: {words}",
    )


def _mean(ratios: Sequence[float | None], band: tuple[float, float]) -> Equivalence | None:
    """The excess over 1; at alpha 2.5 % the interval of the two one-sided tests is one of 95 %."""
    known = np.array([ratio for ratio in ratios if ratio is not None])
    if len(known) < _SEEDS_AT_LEAST:
        return None
    return tost(known - 1, band[0] - 1, band[1] - 1, alpha=0.025)


def _verdict(
    measured: Equivalence | None, fired: bool | None, band: tuple[float, float]
) -> tuple[Verdict, str]:
    if measured is None:
        return Verdict.INCONCLUSIVE, "fewer than two seeds reached the level"
    if not fired:
        return Verdict.INCONCLUSIVE, "the version before relearns no faster"
    if 1 + measured.ci_high < band[0]:
        return Verdict.FAIL, "relearned too fast"
    if 1 + measured.ci_low > band[1]:
        return Verdict.FAIL, "relearned too slowly: over-forgotten"
    if measured.equivalent:
        return Verdict.PASS, "as fast as retrained models"
    return Verdict.INCONCLUSIVE, "too few seeds to tell"


def _numbers(measured: Equivalence | None) -> tuple[float, tuple[float, float]]:
    if measured is None:
        return float("nan"), (float("-inf"), float("inf"))
    return 1 + measured.mean, (1 + measured.ci_low, 1 + measured.ci_high)


def _batches(count: int, steps: int, batch_size: int, seed: int) -> Iterator[Indices]:
    generator, size = np.random.default_rng(seed), min(batch_size, count)
    waiting = generator.permutation(count)
    for _ in range(steps):
        if len(waiting) < size:
            waiting = generator.permutation(count)
        yield waiting[:size]
        waiting = waiting[size:]
