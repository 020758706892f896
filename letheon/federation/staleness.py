"""How much less a delta weighs the more versions passed since its base.

Constant, polynomial and hinge are those of Xie, Koyejo, Gupta, "Asynchronous Federated
Optimization" (2019), section 5.2. Each weight is in [0, 1], 1 when fresh, and never grows with
staleness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from letheon.errors import BadConfig


class Discount(Protocol):
    """Weight of a delta by its staleness."""

    def weight(self, staleness: int) -> float:
        """Weight in [0, 1] of a delta whose base is `staleness` >= 0 versions old."""


def _require_not_negative(**arguments: float) -> None:
    for name, value in arguments.items():
        if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number, at least 0, not {value}")


@dataclass(frozen=True)
class Constant:
    """1, whatever the staleness."""

    def weight(self, staleness: int) -> float:  # noqa: ARG002 (the protocol's argument)
        """1."""
        return 1.0


@dataclass(frozen=True)
class Polynomial:
    """(1 + s) ** -exponent."""

    exponent: float = 0.5

    def __post_init__(self) -> None:
        _require_not_negative(exponent=self.exponent)

    def weight(self, staleness: int) -> float:
        """(1 + s) ** -exponent."""
        return float((1.0 + staleness) ** -self.exponent)


@dataclass(frozen=True)
class Exponential:
    """exp(-rate * s)."""

    rate: float = 0.1

    def __post_init__(self) -> None:
        _require_not_negative(rate=self.rate)

    def weight(self, staleness: int) -> float:
        """exp(-rate * s)."""
        return math.exp(-self.rate * staleness)


@dataclass(frozen=True)
class Hinge:
    """1 up to `grace` versions, then 1 / (slope * (s - grace) + 1)."""

    grace: int = 4
    slope: float = 0.5

    def __post_init__(self) -> None:
        _require_not_negative(grace=self.grace, slope=self.slope)

    def weight(self, staleness: int) -> float:
        """1 up to `grace`, then 1 / (slope * (s - grace) + 1)."""
        late = max(0, staleness - self.grace)
        return 1.0 / (self.slope * late + 1.0)


DISCOUNTS: Mapping[str, Callable[..., Discount]] = {
    "constant": Constant,
    "polynomial": Polynomial,
    "exponential": Exponential,
    "hinge": Hinge,
}


def staleness_from(name: str, arguments: Mapping[str, Any]) -> Discount:
    """The discount of that name, built from its arguments.

    Raises BadConfig for an unknown name, an unknown argument or a value out of range.
    """
    if name not in DISCOUNTS:
        raise BadConfig(f"no staleness {name!r}; there are: {', '.join(sorted(DISCOUNTS))}")
    try:
        return DISCOUNTS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"staleness {name!r} refuses its arguments: {error}") from error
