"""FedAsync: every delta is merged on arrival, discounted by its staleness."""

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
class FedAsync:
    """`c = server_learning_rate * site weight * staleness weight * clip`.

    Xie, Koyejo, Gupta, "Asynchronous Federated Optimization" (2019). The paper mixes models,
    `w <- (1 - a) w + a w_local`; here the delta against the base is added instead, so the head
    stays a sum of contributions. `site_weights` defaults to 1 for a site it does not name;
    `clip_norm` bounds the L2 norm of what is merged (before `server_learning_rate`).
    """

    server_learning_rate: float = 0.6
    staleness: str = "polynomial"
    staleness_arguments: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: float | None = None
    site_weights: Mapping[str, float] = field(default_factory=dict)

    linear: ClassVar[bool] = True
    buffers: ClassVar[bool] = False
    synchronous: ClassVar[bool] = False
    _discount: Discount = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_positive(server_learning_rate=self.server_learning_rate, clip_norm=self.clip_norm)
        check_site_weights(self.site_weights)
        discount = staleness_from(self.staleness, self.staleness_arguments)
        object.__setattr__(self, "_discount", discount)

    def ready(self, waiting: Sequence[Offer], taking_part: Collection[str] = ()) -> bool:  # noqa: ARG002 (nobody is waited for)
        """True as soon as one delta waits."""
        return len(waiting) > 0

    def coefficients(self, waiting: Sequence[Offer]) -> tuple[float, ...]:
        """One float32 coefficient per delta, each independent of the others."""
        return tuple(as_coefficient(self._coefficient(offer)) for offer in waiting)

    def _coefficient(self, offer: Offer) -> float:
        return (
            self.server_learning_rate
            * self.site_weights.get(offer.site, 1.0)
            * self._discount.weight(offer.staleness)
            * clip(offer.norm, self.clip_norm)
        )
