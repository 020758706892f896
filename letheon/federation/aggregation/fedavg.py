"""FedAvg: a round merges one delta of every site, once the slowest has sent its own.

A baseline to compare with, not a way to run a consortium: one slow site sets everybody's pace.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from letheon.federation.aggregation.strategy import Offer, require_positive
from letheon.federation.arithmetic import as_coefficient


@dataclass(frozen=True)
class FedAvg:
    """`c_i = server_learning_rate * records_i / records of all that wait`.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017. With a rate of 1 the head becomes the mean of the local models, weighted by
    records. The share is of those that wait: a round that ends without somebody is the mean of
    the others. Sites that name no records weigh the same.
    """

    server_learning_rate: float = 1.0

    linear: ClassVar[bool] = True
    buffers: ClassVar[bool] = True
    synchronous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_positive(server_learning_rate=self.server_learning_rate)

    def ready(self, waiting: Sequence[Offer], taking_part: Collection[str] = ()) -> bool:
        """True once every site that takes part has a waiting delta, and one at least waits."""
        delivered = {offer.site for offer in waiting}
        return bool(delivered) and delivered.issuperset(taking_part)

    def coefficients(self, waiting: Sequence[Offer]) -> tuple[float, ...]:
        """One float32 coefficient per delta; together they merge the weighted mean."""
        records = sum(offer.record_count for offer in waiting)
        return tuple(
            as_coefficient(
                self.server_learning_rate
                * (offer.record_count / records if records else 1.0 / len(waiting))
            )
            for offer in waiting
        )
