"""A figure: what was measured, beside the bound it is compared with."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """`share` is 1 where the bound is reached, and is the smaller the worse, whatever the unit."""

    what: str
    case: str
    value: float
    unit: str
    bound: str  # what `bound_value` is of
    bound_value: float
    at_least: float | None = None  # the share that is promised; None: a figure to read
    more_is_better: bool = False

    @property
    def share(self) -> float:
        if self.more_is_better:
            return self.value / self.bound_value
        return self.bound_value / self.value if self.value else float("inf")

    @property
    def is_kept(self) -> bool:
        return self.at_least is None or self.share >= self.at_least

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "share": round(self.share, 4), "kept": self.is_kept}


def interleaved(
    contenders: Mapping[str, Callable[[int], float]], *, repeats: int, warm_ups: int = 1
) -> dict[str, list[float]]:
    """What each contender answers, `repeats` times.

    They take turns, another one first each time: whatever else the machine does meets all of
    them alike. Each is called with the number of the turn; warm-ups are not kept.
    """
    names = list(contenders)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_ups + repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            answer = contenders[name](turn)
            if turn >= warm_ups:
                found[name].append(answer)
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each contender."""
    return {name: statistics.median(values) for name, values in found.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
