"""Federated unlearning by projected gradient ascent, the synchronous baseline.

Halimi et al., arXiv 2207.05521:

    w_ref = N / (N - 1) * w_s - 1 / (N - 1) * w_T      the mean without the subject's last model
    w_u   = argmax CE over the subject's records inside ||w - w_ref||^2 <= R     (`ascent`, c = 3)
    w     <- w_u, then a few ordinary rounds without the subject

All sites train in rounds with a barrier from the request on, and wait while the subject ascends:
the price that asynchronous methods save. Needs the target, N and its last local model. The
published stopping rule (distance from the subject's own model) is not rebuilt; the number of steps
is fixed.

It fails as ascent does: the ball is tied to random networks and not to the influence, a few steps
too many ruin the model, and what it suppresses comes back with later training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from letheon.unlearning import script
from letheon.unlearning.ascent import AscentParameters
from letheon.unlearning.method import (
    TARGET,
    AskTarget,
    Case,
    Offer,
    Outcome,
    Overwrite,
    State,
    Step,
    Synchronise,
)


@dataclass(frozen=True)
class Pga:
    """Barrier, ascent at the target, overwrite; the rounds go on without the subject.

    Raises BadConfig for a value out of range.
    """

    offer: ClassVar[Offer] = Offer(
        name="pga",
        levels=frozenset({"L1"}),
        subtracts=False,
        suppresses=True,
        needs=frozenset({TARGET}),
        services=False,
        why_not_services=(
            "pga has every site wait while the subject works, and the services never halt a "
            "site; ask for afu_ic_rebased, which ascends while the others train, or for removal"
        ),
    )

    learning_rate: float = 1e-2
    steps: int = 24
    momentum: float = 0.9
    clip_norm: float = 5.0  # of the gradient
    radius_divisor: float = 3.0  # radius^2 = mean squared distance to random networks / this
    random_networks: int = 10
    target_timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        self._ascent(sites=2)

    def begin(self, case: Case) -> State:
        """State before the first step. Raises MethodRefused, also for a case of unknown sites."""
        script.check_sites(self.offer, case)
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Put up the barrier, ask the target, overwrite the head."""
        now = script.read(state)
        version, timeout = now.case.version_after, self.target_timeout_seconds
        ask = AskTarget("ascent", self._ascent(now.case.sites), version, timeout)
        return script.next_step(now, (Synchronise(), ask, Overwrite(now.upload)))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)

    def _ascent(self, sites: int) -> dict[str, Any]:
        return asdict(
            AscentParameters(
                learning_rate=self.learning_rate,
                steps=self.steps,
                momentum=self.momentum,
                clip_norm=self.clip_norm,
                radius_divisor=self.radius_divisor,
                random_networks=self.random_networks,
                reference="mean",
                sites=sites,
            )
        )
