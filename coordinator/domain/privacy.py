"""What a site's updates can have told of one unit at most, as its agent says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from letheon.errors import MalformedRequest

_UNITS = ("record", "patient")


@dataclass(frozen=True)
class PrivacyLoss:
    """Told with every poll; kept in memory, because the site's own ledger is the truth."""

    epsilon: float
    delta: float
    budget: float  # epsilon
    unit: str  # record or patient
    is_spent: bool  # the site trains no more

    def __post_init__(self) -> None:
        """Raises MalformedRequest naming the field and the rule."""
        rules = (
            ("epsilon", math.isfinite(self.epsilon) and self.epsilon >= 0.0, "0 or more"),
            ("delta", 0.0 < self.delta < 1.0, "between 0 and 1"),
            ("epsilon_budget", math.isfinite(self.budget) and self.budget > 0.0, "above 0"),
            ("unit", self.unit in _UNITS, " or ".join(_UNITS)),
        )
        for name, holds, rule in rules:
            if not holds:
                raise MalformedRequest(f"privacy.{name} must be {rule}", field=f"privacy.{name}")
