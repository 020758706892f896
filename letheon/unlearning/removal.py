"""Contribution removal, the default: subtract, then let the retained sites repair.

The subtraction itself happens in the coordinator's removal transaction (`w <- w - C_T`). It
removes the direct influence exactly; what is left is indirect and is measured by the gate. The
subtraction is never shrunk to protect accuracy: that leaves the influence.

"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from letheon.errors import BadConfig
from letheon.unlearning import script
from letheon.unlearning.method import Calibrate, Case, Offer, Outcome, State, Step, WaitForDeltas


@dataclass(frozen=True)
class Removal:
    """Removal, followed by invariance calibration if the request asks for it."""

    offer: ClassVar[Offer] = Offer(
        name="removal",
        levels=frozenset({"L1"}),
        subtracts=True,
        suppresses=False,
    )

    calibration_rounds: int = 3
    repair_before_calibration: int = 8  # versions; a head just cut open is a poor anchor
    versions_between_rounds: int = 2
    allowed_drop: float = 0.02  # of accuracy, per calibration round

    def __post_init__(self) -> None:
        """Raises BadConfig for a count below one."""
        if min(self.calibration_rounds, self.repair_before_calibration) < 1:
            raise BadConfig("removal: rounds and versions to wait are at least 1")

    def begin(self, case: Case) -> State:
        """State before the first step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Nothing, or waits and calibration rounds in turn."""
        now = script.read(state)
        return script.next_step(now, self._steps(now.case))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)

    def _steps(self, case: Case) -> list[Step]:
        if not case.calibrate:
            return []
        steps: list[Step] = [WaitForDeltas(self.repair_before_calibration)]
        for number in range(self.calibration_rounds):
            if number:
                steps.append(WaitForDeltas(self.versions_between_rounds))
            steps.append(Calibrate(number, {}, self.allowed_drop))
        return steps
