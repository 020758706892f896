"""Orthogonal steepest descent at the target, in the style of FedOSD.

Pan et al., arXiv 2412.20200; equations in `orthogonal_descent`. The loss is bounded, so no ball is
needed to stop it, and the direction leaves alone what the last retained deltas pushed along. The
patch is added to the head. Two things of the paper are left out: its hundred rounds in which every
site sends a gradient, and the recovery in which retained gradients lose their component along the
way back.

Needs the target, and other sites' last deltas at the target's site: that is why only the simulator
has it. Costs the target some thirty steps.

It fails where eight deltas do not span what the model needs, and it only suppresses: the
contribution stays in the head.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from letheon.unlearning import script
from letheon.unlearning.method import (
    TARGET,
    AskTarget,
    Case,
    Offer,
    Outcome,
    PushPatch,
    State,
    Step,
)
from letheon.unlearning.orthogonal_descent import OrthogonalParameters


@dataclass(frozen=True)
class FedOsd:
    """The target descends, its patch is added. Raises BadConfig for a value out of range."""

    offer: ClassVar[Offer] = Offer(
        name="fedosd",
        levels=frozenset({"L1"}),
        subtracts=False,
        suppresses=True,
        needs=frozenset({TARGET}),
        services=False,
        why_not_services=(
            "fedosd needs other sites' last deltas at the subject's site, and the services never "
            "hand one site's deltas to another; ask for removal"
        ),
    )

    learning_rate: float = 1e-2
    steps: int = 30
    target_timeout_seconds: float = 600.0
    allowed_drop: float = 1.0  # of accuracy, by the patch; 1: the paper checks none

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        self._descent()

    def begin(self, case: Case) -> State:
        """State before the first step."""
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Ask the target, then add its patch whole."""
        now = script.read(state)
        ask = AskTarget(
            "orthogonal",
            self._descent(),
            now.case.version_after,
            self.target_timeout_seconds,
            rule="orthogonal_descent",
        )
        push = PushPatch("orthogonal", now.upload, (1.0,), self.allowed_drop)
        return script.next_step(now, (ask, push))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)

    def _descent(self) -> dict[str, Any]:
        return asdict(OrthogonalParameters(self.learning_rate, self.steps))
