"""Contribution removal, then the retained contributions recombined into a usable head.

    p by `recombination`, for w - C_T   while the subject is fenced and training goes on
    w <- w - C_T                        the removal transaction, whole as ever
    w <- w + p                          at once; p in the span of what the retained sites gave

Every tensor of every retained site's contribution, in segments of its history, gets a weight; the
weights are fitted to labelled calibration images. A head that the removal had cut to a third of
its accuracy is usable within seconds, and ordinary training repairs the rest sooner.

Needs the history (the payloads of the retained sites' deltas) and labelled calibration images of
no hospital that may ever be the subject; no target. Costs a few hundred steps on the calibration
images. The direct influence stays removed exactly: p is a sum of other sites' deltas. Its weights
may enlarge what is indirect in them; that is measured like any indirect influence. If the patch
costs accuracy on the audit images it is left out, and the erasure goes on as a plain removal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from letheon.errors import BadConfig
from letheon.unlearning import script
from letheon.unlearning.method import (
    CALIBRATION_IMAGES,
    HISTORY,
    Case,
    Offer,
    Outcome,
    Recombine,
    State,
    Step,
)


@dataclass(frozen=True)
class RemovalRecombined:
    """Removal, with a recombination prepared for it."""

    offer: ClassVar[Offer] = Offer(
        name="removal_recombined",
        levels=frozenset({"L1"}),
        subtracts=True,
        suppresses=False,
        needs=frozenset({CALIBRATION_IMAGES, HISTORY}),
    )

    segments: int = 4  # of each retained site's history
    steps: int = 250
    learning_rate: float = 0.05
    batch_size: int = 128
    allowed_drop: float = 0.02  # of accuracy on the audit images, by the patch

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if min(self.segments, self.steps, self.batch_size) < 1 or self.learning_rate <= 0:
            raise BadConfig(
                "removal_recombined: segments, steps and batch size are at least 1, the rate is "
                "above 0"
            )

    def begin(self, case: Case) -> State:
        """State before the first step."""
        return script.begin(self.offer, case)

    def preparation(self) -> Recombine:
        """The fit, for the head as it will be without the subject."""
        parameters = {
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
        }
        return Recombine(0, self.segments, parameters, self.allowed_drop)

    def next_step(self, state: State) -> Step:
        """Nothing: the patch came with the removal."""
        return script.next_step(script.read(state), [])

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)
