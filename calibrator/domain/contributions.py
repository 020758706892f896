"""What retained sites contributed, and patches made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from letheon.federation.parameters import Vector


@dataclass(frozen=True)
class RetainedPart:
    """What a site that stays added to the head by some of its entries."""

    site: str  # sites/{site}
    first_entry: int
    last_entry: int
    values: Vector  # [d]


@dataclass(frozen=True)
class Recombination:
    """A recombination that was tried on the audit images: of each site its own patch."""

    patches: Mapping[str, Vector]  # sites/{site} -> [d], as to be added
    accuracy_before: float
    accuracy_after: float
    numbers: Mapping[str, float]
