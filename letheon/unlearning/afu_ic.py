"""AFU-IC as its authors published it: the unlearned snapshot overwrites the head.

Cai and Zhang, arXiv 2604.26809. The full text was not available: this follows the abstract and the
authors' public code (`asy_fu_mnist.py` for the asynchronous part, `fu_oasis_kl.py` for the KL).

    w_ref = N / (N - 1) * w_s - 1 / (N - 1) * w_T      w_T: the subject's last local model
    w_u   = ascent on -CE from w_ref, clipped, inside ||w - w_ref||^2 <= R       (`ascent`)
    w     <- w_u                                       the head is overwritten
    then, now and after each delta: SGD on KL( stopgrad p_w(x) || p_w(g(x)) )    (`calibration`)

Needs the target, N, its last local model and images beside the coordinator. Costs the target some
two passes over its records and the server one pass over its images a round. The authors let g be
the attacker's own trigger ("probe"), which no server knows of ordinary patients; the paper speaks
of augmentations ("family").

It fails where it overwrites: every delta accepted between the snapshot and the overwrite is lost,
which the services never allow. It suppresses: without the trigger the backdoor of the prototype's
brain images came back to 55-99 % in all ten settings, and membership stayed visible. A head that
is a sum of deltas is no mean of N models, so w_ref takes out little. Without the anchor term a
constant predictor is optimal for the KL.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from letheon.errors import BadConfig
from letheon.unlearning import script
from letheon.unlearning.ascent import AscentParameters
from letheon.unlearning.calibration import FAMILY_TRANSFORM, PROBE_TRANSFORM
from letheon.unlearning.method import (
    CALIBRATION_IMAGES,
    TARGET,
    AskTarget,
    Calibrate,
    Case,
    Offer,
    Outcome,
    Overwrite,
    State,
    Step,
    WaitForDeltas,
)

TRANSFORMS = (FAMILY_TRANSFORM, PROBE_TRANSFORM)


@dataclass(frozen=True)
class AfuIc:
    """The simulator carries it out; the services refuse it with a sentence.

    Defaults are those of the authors' asynchronous code. Raises BadConfig for a value out of range.
    """

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

    learning_rate: float = 1e-3
    steps: int = 24
    momentum: float = 0.9
    clip_norm: float = 5.0  # of the gradient
    radius_divisor: float = 9.0  # radius^2 = mean squared distance to random networks / this
    random_networks: int = 10
    target_timeout_seconds: float = 600.0
    calibration_rounds: int = 10  # the first at once, then one after each delta; 0: none
    transform: str = FAMILY_TRANSFORM  # or "probe": knows the trigger

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        self._ascent(sites=2)
        if self.calibration_rounds < 0 or self.transform not in TRANSFORMS:
            raise BadConfig(
                "afu_ic: calibration_rounds is at least 0, transform one of: "
                f"{', '.join(TRANSFORMS)}"
            )

    def begin(self, case: Case) -> State:
        """State before the first step. Raises MethodRefused, also for a case of unknown sites."""
        script.check_sites(self.offer, case)
        return script.begin(self.offer, case)

    def next_step(self, state: State) -> Step:
        """Ask the target, overwrite the head, then calibrate in rounds."""
        now = script.read(state)
        return script.next_step(now, self._steps(now.case, now.upload))

    def fold(self, state: State, outcome: Outcome) -> State:
        """One step further."""
        return script.fold(state, outcome)

    def _steps(self, case: Case, upload: str) -> list[Step]:
        parameters = self._ascent(case.sites)
        timeout = self.target_timeout_seconds
        steps: list[Step] = [
            AskTarget("ascent", parameters, case.version_after, timeout),
            Overwrite(upload),
        ]
        how = {"transform": self.transform, "anchor_weight": 0.0}
        for number in range(self.calibration_rounds):
            if number:
                steps.append(WaitForDeltas(1))
            # The authors check no accuracy, so no round is ever refused for it.
            steps.append(Calibrate(number, how, allowed_drop=1.0))
        return steps

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
