"""AFU-IC as its authors published it: the unlearned snapshot overwrites the head.

Cai and Zhang, arXiv 2604.26809. Every delta accepted between the snapshot and the overwrite is
lost, which the services never allow; the method exists to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from letheon.errors import MethodRefused
from letheon.unlearning import script
from letheon.unlearning.method import CALIBRATION_IMAGES, TARGET, Case, Offer, Outcome, State, Step


@dataclass(frozen=True)
class AfuIc:
    """Refused by the services with a sentence."""

    offer: ClassVar[Offer] = Offer(
        name="afu_ic",
        levels=frozenset({"L1"}),
        subtracts=False,
        suppresses=True,
        needs=frozenset({TARGET, CALIBRATION_IMAGES}),
        services=False,
        why_not_services=(
            "afu_ic overwrites the head with an old snapshot and so loses the deltas that "
            "retained sites had accepted meanwhile; ask for afu_ic_rebased, which adds its patch "
            "to the head, or for removal"
        ),
    )

    def begin(self, case: Case) -> State:
        """Always raises MethodRefused."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:  # noqa: ARG002
        """Always raises MethodRefused: there is no state to go on from."""
        raise MethodRefused(self.offer.why_not_services, method=self.offer.name)

    def fold(self, state: State, outcome: Outcome) -> State:  # noqa: ARG002
        """Always raises MethodRefused: there is no state to go on from."""
        raise MethodRefused(self.offer.why_not_services, method=self.offer.name)
