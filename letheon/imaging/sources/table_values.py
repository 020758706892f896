"""One column of a table as features."""

from __future__ import annotations

import math
from dataclasses import dataclass

from letheon.imaging.sources.assembly import Undecodable
from letheon.imaging.sources.report import Skipped


@dataclass(frozen=True)
class Column:
    """A number, scaled by a fixed mean and deviation; or one feature for each fixed category."""

    name: str
    place: int  # in the line
    categories: tuple[str, ...] | None
    missing: tuple[str, ...]  # what stands for no value
    fill: str | None  # what a missing value becomes; None: its row is left out
    scale: tuple[float, float] | None  # mean, standard deviation

    @property
    def features(self) -> tuple[str, ...]:
        """Their names."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)

    def read(self, cell: str) -> tuple[list[float], bool]:
        """The features, and whether the value was filled in. Raises Undecodable."""
        missing = any(same_value(cell, word) for word in self.missing)
        if missing and self.fill is None:
            raise Undecodable(Skipped.MISSING_VALUE, f"no {self.name}")
        value = str(self.fill) if missing else cell
        if self.categories is None:
            return [self._number(value)], missing
        if not any(same_value(value, category) for category in self.categories):
            raise Undecodable(
                Skipped.BAD_VALUE,
                f"{self.name} is none of {', '.join(self.categories)}",
            )
        return [float(same_value(value, category)) for category in self.categories], missing

    def _number(self, value: str) -> float:
        if not is_number(value) or not math.isfinite(float(value)):
            raise Undecodable(Skipped.BAD_VALUE, f"{self.name} is no number")
        mean, deviation = self.scale or (0.0, 1.0)
        return (float(value) - mean) / deviation


def same_value(first: str, second: str) -> bool:
    """The same word, or the same number: 1 and 1.0 are one category."""
    if first == second:
        return True
    return is_number(first) and is_number(second) and float(first) == float(second)


def is_number(text: str) -> bool:
    """Whether it can be read as one."""
    try:
        float(text)
    except ValueError:
        return False
    return True
