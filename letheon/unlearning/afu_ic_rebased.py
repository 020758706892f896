"""AFU-IC with its patch added to the head instead of written over it.

Cai and Zhang, arXiv 2604.26809, as reconstructed from the abstract and the authors' code. The
subject's agent runs projected gradient ascent from a snapshot inside an L2 ball; the difference
travels as a patch, is capped, checked for utility and added to the newest head, so that no delta
accepted meanwhile is lost. Invariance calibration follows. The method suppresses influence: the
contribution stays in the head, and the gate certifies only if a forgetting test passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from letheon.errors import BadConfig
from letheon.unlearning import script
from letheon.unlearning.method import (
    CALIBRATION_IMAGES,
    TARGET,
    AskTarget,
    Calibrate,
    Case,
    Offer,
    Outcome,
    PushPatch,
    State,
    Step,
    WaitForDeltas,
)

SCALES = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class AfuIcRebased:
    """Ascent at the target, then calibration rounds. Defaults are those of the authors' code."""

    offer: ClassVar[Offer] = Offer(
        name="afu_ic_rebased",
        levels=frozenset({"L1"}),
        subtracts=False,
        suppresses=True,
        needs=frozenset({TARGET, CALIBRATION_IMAGES}),
    )

    learning_rate: float = 1e-3
    steps: int = 24
    momentum: float = 0.9
    clip_norm: float = 5.0  # of the gradient
    radius_divisor: float = 9.0  # radius^2 = mean squared distance to random networks / this
    random_networks: int = 10
    target_timeout_seconds: float = 600.0
    allowed_drop: float = 0.10  # of accuracy, by the patch
    calibration_rounds: int = 3
    versions_between_rounds: int = 1
    calibration_allowed_drop: float = 0.02

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if min(self.learning_rate, self.clip_norm, self.radius_divisor) <= 0:
            raise BadConfig("afu_ic_rebased: rate, clip norm and radius divisor are above 0")
        if min(self.steps, self.random_networks, self.calibration_rounds) < 1:
            raise BadConfig("afu_ic_rebased: steps, networks and rounds are at least 1")

    def begin(self, case: Case) -> State:
        """State before the first step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Ask the target, add its patch, then calibrate in rounds."""
        now = script.read(state)
        return script.next_step(now, self._steps(now.case, now.upload))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)

    def _steps(self, case: Case, upload: str) -> list[Step]:
        parameters = {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "momentum": self.momentum,
            "clip_norm": self.clip_norm,
            "radius_divisor": self.radius_divisor,
            "random_networks": self.random_networks,
        }
        ask = AskTarget("ascent", parameters, case.version_after, self.target_timeout_seconds)
        steps: list[Step] = [ask, PushPatch("ascent", upload, SCALES, self.allowed_drop)]
        for number in range(self.calibration_rounds):
            steps.append(Calibrate(number, {}, self.calibration_allowed_drop))
            steps.append(WaitForDeltas(self.versions_between_rounds))
        return steps[:-1]
