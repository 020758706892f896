"""Contribution removal, then the retained contributions recombined into a usable head.

    w <- w - C_T                        the removal transaction, whole as ever
    w <- w + p,  p by `recombination`   p in the span of what the retained sites contributed

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
    WaitForDeltas,
)


@dataclass(frozen=True)
class RemovalRecombined:
    """Removal, and one recombination or several with training between them."""

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
    rounds: int = 1
    versions_between_rounds: int = 16
    allowed_drop: float = 0.02  # of accuracy on the audit images, by the patch

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if min(self.segments, self.rounds, self.versions_between_rounds) < 1:
            raise BadConfig(
                "removal_recombined: segments, rounds and versions to wait are at least 1"
            )
        if min(self.steps, self.batch_size) < 1 or self.learning_rate <= 0:
            raise BadConfig(
                "removal_recombined: steps and batch size are at least 1, the rate is above 0"
            )

    def begin(self, case: Case) -> State:
        """State before the first step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Recombine, wait, recombine again."""
        now = script.read(state)
        return script.next_step(now, self._steps())

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)

    def _steps(self) -> list[Step]:
        parameters = {
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
        }
        steps: list[Step] = []
        for number in range(self.rounds):
            if number:
                steps.append(WaitForDeltas(self.versions_between_rounds))
            steps.append(Recombine(number, self.segments, parameters, self.allowed_drop))
        return steps
