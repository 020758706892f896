"""What a strategy is: a rule that gives each waiting delta its coefficient.

Laws, kept by one suite for every registered strategy: a staler delta never weighs more than the
same delta fresh; the order of the waiting deltas does not matter to rounding; a coefficient is a
float32 number, finite and at least 0; asking changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Offer:
    """What a strategy knows of a delta. Never the values: so coefficients can be replayed.

    `site` is the identifier, `staleness` in versions, `record_count` what the site says it
    trains on, `norm` the L2 norm of the decoded delta.
    """

    site: str
    staleness: int
    record_count: int
    norm: float


@runtime_checkable
class Strategy(Protocol):
    """Decides when waiting deltas are merged and with which coefficients."""

    @property
    def linear(self) -> bool:
        """Whether the head is a sum of coefficient times delta, so that it can be subtracted."""

    @property
    def buffers(self) -> bool:
        """Whether deltas wait for others before they are merged."""

    @property
    def synchronous(self) -> bool:
        """Whether a site whose delta waits gets no new task until it is merged."""

    def ready(self, waiting: Sequence[Offer], taking_part: Collection[str] = ()) -> bool:
        """Whether the waiting deltas, oldest first, are merged now.

        `taking_part` are the identifiers of the sites that a synchronous strategy waits for; the
        others do not look at it.
        """

    def coefficients(self, waiting: Sequence[Offer]) -> tuple[float, ...]:
        """One coefficient per waiting delta, in order: float32 numbers, at least 0.

        May be asked before `ready`, when an erasure flushes the buffer early.
        """


def clip(norm: float, clip_norm: float | None) -> float:
    """Factor in (0, 1] that brings a delta of that L2 norm down to `clip_norm`."""
    if clip_norm is None or norm <= clip_norm:
        return 1.0
    return clip_norm / norm


def require_positive(**arguments: float | None) -> None:
    """Raises ValueError naming the first argument that is neither None nor finite and > 0."""
    for name, value in arguments.items():
        if value is None:
            continue
        if isinstance(value, bool) or not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number above 0, not {value}")


def check_site_weights(weights: Mapping[str, float]) -> None:
    """Raises ValueError naming the first site whose weight is not finite and at least 0."""
    for site, weight in weights.items():
        if isinstance(weight, bool) or not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"site_weights of {site!r} must be at least 0, not {weight}")
