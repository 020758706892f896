"""Weight negation: break the first layer on purpose, and let the retained sites train it anew.

    w_j <- -w_j  for the chosen tensors, then the others' ordinary training   (rule "negate")

NoT, arXiv 2503.05657. Needs neither target nor history; images beside the coordinator only say
what the negation cost. Costs nothing at the server and much at the sites: the head is useless until
they have repaired it.

It fails by suppressing: what the other layers learned from the subject stays in them. In the
project's prototype accuracy was still 6-7 points below retraining some 58 deltas later, and four
steps on erased samples brought back more of the backdoor than after removal. So the gate certifies
only if a forgetting test passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from letheon.unlearning import script
from letheon.unlearning.method import (
    CALIBRATION_IMAGES,
    Case,
    ComputePatch,
    Offer,
    Outcome,
    State,
    Step,
)


@dataclass(frozen=True)
class WeightNegation:
    """One patch of -2 w on the chosen tensors."""

    offer: ClassVar[Offer] = Offer(
        name="weight_negation",
        levels=frozenset({"L1"}),
        subtracts=False,
        suppresses=True,
        needs=frozenset({CALIBRATION_IMAGES}),
    )

    tensors: Sequence[str] = ()  # by name; none: the first convolution

    def begin(self, case: Case) -> State:
        """State before the only step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Negate, then finished. Accuracy is measured but not a condition: it breaks by design."""
        step = ComputePatch("negate", {"tensors": list(self.tensors)}, allowed_drop=None)
        return script.next_step(script.read(state), (step,))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)
