"""The bootstrap by patient: records of one patient are drawn together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

INTERVAL = (2.5, 97.5)  # percentiles of a 95 % interval


@dataclass(frozen=True)
class Units:
    """What one side of a comparison resamples."""

    of_record: Integers  # [n] index of the patient (or of the record itself)
    count: int

    def resample(self, rng: np.random.Generator) -> Floats:
        """Weights [n]: how often each record is in one resample of the units."""
        drawn = rng.integers(0, self.count, self.count)
        weights: Floats = np.bincount(drawn, minlength=self.count).astype(np.float64)
        return weights[self.of_record]


def units_of(groups: Sequence[str] | None, records: int) -> Units:
    """The units of n records: their patients, or each record where patients are unknown.

    Raises BadData if there are no records or not one group for each.
    """
    if records == 0:
        raise BadData("a comparison needs at least one record on each side")
    if groups is None:
        return Units(np.arange(records), records)
    if len(groups) != records:
        raise BadData(f"{records} records, but {len(groups)} patient entries")
    known, units = np.unique(np.asarray(groups), return_inverse=True)
    return Units(units.astype(np.int64), len(known))


def bootstrap(
    draw: Callable[[np.random.Generator], float], *, resamples: int, seed: int
) -> tuple[float, float]:
    """95 % percentile interval of a statistic, each value made by one call of `draw`.

    Raises BadData without a resample.
    """
    if resamples < 1:
        raise BadData("the bootstrap needs at least one resample")
    rng = np.random.default_rng(seed)
    low, high = np.percentile([draw(rng) for _ in range(resamples)], INTERVAL)
    return float(low), float(high)
