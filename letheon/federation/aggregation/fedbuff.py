"""FedBuff: deltas wait until the buffer is full, then their weighted mean is merged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from letheon.federation.aggregation.strategy import (
    Offer,
    check_site_weights,
    clip,
    require_positive,
)
from letheon.federation.arithmetic import as_coefficient
from letheon.federation.staleness import Discount, staleness_from


@dataclass(frozen=True)
class FedBuff:
    """`c_i = server_learning_rate * weight_i / K`, weight = site * records * staleness * clip.

    Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022:
    the sum of staleness-weighted deltas divided by the buffer size K, not by the sum of the
    weights, so that a buffer of stale deltas moves the head less. Beyond the paper, a delta
    weighs by its site's records relative to the mean of those waiting. A buffer flushed early
    is still divided by K: nobody's delta weighs more because another's was voided.
    """

    buffer_size: int = 4
    server_learning_rate: float = 1.0
    staleness: str = "polynomial"
    staleness_arguments: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: float | None = None
    site_weights: Mapping[str, float] = field(default_factory=dict)

    linear: ClassVar[bool] = True
    buffers: ClassVar[bool] = True
    synchronous: ClassVar[bool] = False
    _discount: Discount = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.buffer_size, bool) or not isinstance(self.buffer_size, int):
            raise TypeError(f"buffer_size must be a whole number, not {self.buffer_size!r}")
        require_positive(
            buffer_size=self.buffer_size,
            server_learning_rate=self.server_learning_rate,
            clip_norm=self.clip_norm,
        )
        check_site_weights(self.site_weights)
        discount = staleness_from(self.staleness, self.staleness_arguments)
        object.__setattr__(self, "_discount", discount)

    def ready(self, waiting: Sequence[Offer], taking_part: Collection[str] = ()) -> bool:  # noqa: ARG002 (nobody is waited for)
        """True once `buffer_size` deltas wait."""
        return len(waiting) >= self.buffer_size

    def coefficients(self, waiting: Sequence[Offer]) -> tuple[float, ...]:
        """One float32 coefficient per delta; together they merge a weighted mean."""
        records = sum(offer.record_count for offer in waiting)
        divisor = max(self.buffer_size, len(waiting))
        return tuple(
            as_coefficient(
                self.server_learning_rate
                * self._weight(offer)
                * (offer.record_count * len(waiting) / records if records else 1.0)
                / divisor
            )
            for offer in waiting
        )

    def _weight(self, offer: Offer) -> float:
        return (
            self.site_weights.get(offer.site, 1.0)
            * self._discount.weight(offer.staleness)
            * clip(offer.norm, self.clip_norm)
        )
