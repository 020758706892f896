"""What an unlearning method is: a pure state machine that asks for work and calls nobody.

The calibrator asks a method for its next step, carries the step out, and folds the outcome into
the state. The state is JSON kept at the coordinator, so that any calibrator can go on from it.

Laws, checked by `tests/conformance/test_methods_conformance.py` on every registered method:
the state survives JSON; `next_step` and `fold` change nothing they are given; every sequence of
outcomes comes to an end; no step needs what `offer.needs` does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

#: The subject's agent must be reachable while the erasure runs.
TARGET = "target"
#: The calibrator needs images of its own to calibrate on and others to check patches with.
CALIBRATION_IMAGES = "calibration_images"
#: The payloads of the retained sites' deltas must still exist.
HISTORY = "history"

State: TypeAlias = dict[str, Any]  # JSON; its shape is the method's own affair


@dataclass(frozen=True)
class Offer:
    """What a method can do and what it needs."""

    name: str  # its entry point
    levels: frozenset[str]  # assurance levels it can give, such as {"L1"}
    subtracts: bool  # the subject's contribution leaves the head at the removal
    suppresses: bool  # hides influence: certified only if a forgetting test passed
    needs: frozenset[str] = frozenset()  # of TARGET, CALIBRATION_IMAGES, HISTORY
    exchanges: bool = False  # of records at a site that stays, and of nothing else
    services: bool = True  # the coordinator and the calibrator accept it
    why_not_services: str = ""  # a sentence, when they do not


@dataclass(frozen=True)
class Case:
    """One erasure, as a method sees it."""

    erasure: str  # erasures/{erasure}
    site: str  # sites/{site}
    level: str
    epoch: int  # of the snapshot
    version_before: int
    version_after: int  # the snapshot the method starts from
    contribution_norm: float  # L2 norm of what the subject added to the head
    calibrate: bool  # the request asks for invariance calibration after the method
    seed: int
    sites: int = 0  # that took part, the subject among them; only methods of the laboratory ask
    laboratory: bool = False  # the simulator asks: methods with services=False are admitted


@dataclass(frozen=True)
class AskTarget:
    """Have the subject's agent compute a patch, starting from `version`."""

    request_id: str  # unique within the case
    parameters: Mapping[str, Any]  # JSON; what the agent's part of the method reads
    version: int
    timeout_seconds: float
    rule: str = "ascent"  # what the agent computes; agents know "ascent", the simulator more


@dataclass(frozen=True)
class PushPatch:
    """Cap the uploaded patch, find a scale that keeps utility, add it to the head.

    The scale is the largest of `scales` whose accuracy on the audit images drops by at most
    `allowed_drop`. The cap is a share of the contribution's norm and comes from the plan.
    """

    update_id_hint: str  # unique within the case
    source: str  # update id of the agent's upload
    scales: tuple[float, ...]
    allowed_drop: float  # of accuracy, 0..1


@dataclass(frozen=True)
class Calibrate:
    """One round of invariance calibration from the newest head, added as a patch."""

    round: int  # from 0
    #: Fields of `calibration.CalibrationSettings`, and "transform": "family" (default), or "probe",
    #: the attacker's own trigger, which only the simulator has.
    parameters: Mapping[str, Any]
    allowed_drop: float  # of accuracy on the audit images, 0..1


@dataclass(frozen=True)
class ComputePatch:
    """Compute a patch beside the coordinator, from the newest head, and add it.

    `rule` names how: a key of `letheon.unlearning.server_rules.RULES`. Refused if accuracy on the
    audit images drops by more than `allowed_drop`; None: not checked, as for a rule that breaks
    the head on purpose and lets training repair it.
    """

    rule: str
    parameters: Mapping[str, Any]
    allowed_drop: float | None


@dataclass(frozen=True)
class Recombine:
    """Refit the newest head as a weighted sum of the retained contributions; added as a patch.

    Each retained site's history is cut into `segments` of about as many deltas.
    """

    round: int  # from 0
    segments: int
    parameters: Mapping[str, Any]  # fields of `recombination.RecombinationSettings`
    allowed_drop: float  # of accuracy on the audit images, 0..1


@dataclass(frozen=True)
class Overwrite:
    """Write the target's model over the head. Loses deltas: only the simulator does it."""

    source: str  # update id of the agent's upload: the head becomes its base plus the upload


@dataclass(frozen=True)
class Synchronise:
    """From here on all sites train in rounds with a barrier, and wait while a method works.

    Synchronous baselines only: the simulator does it, the services never halt a site.
    """


@dataclass(frozen=True)
class Replay:
    """Rebuild the head from the history, each stored step corrected by fresh local training.

    All retained sites wait for it: only the simulator does it.
    """

    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Retrain:
    """Train again from new initial weights without the subject; only the simulator does it."""

    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Readmit:
    """Remove the whole contribution of the site; it begins again at zero, without the records.

    The services do it in place of the method's steps (`calibrator.services.exchange_records`).
    """

    reason: str  # why the records could not leave by an exchange


@dataclass(frozen=True)
class WaitForDeltas:
    """Let retained sites work: wait until `count` more versions exist."""

    count: int


@dataclass(frozen=True)
class GiveUp:
    """The method cannot answer the request; the erasure fails with this sentence."""

    reason: str


@dataclass(frozen=True)
class Finished:
    """The method is through; the gate decides from here on."""


ServedStep: TypeAlias = (
    AskTarget | PushPatch | Calibrate | ComputePatch | Recombine | WaitForDeltas | GiveUp | Finished
)
LabStep: TypeAlias = Overwrite | Synchronise | Replay | Retrain | Readmit  # of no service
Step: TypeAlias = ServedStep | LabStep


@dataclass(frozen=True)
class TargetAnswered:
    """The agent uploaded a patch."""

    update_id: str
    norm: float
    steps: int
    loss_before: float  # mean loss on the records to erase
    loss_after: float


@dataclass(frozen=True)
class TargetSilent:
    """The agent could not be asked, did not answer in time, or said that it cannot."""

    reason: str


@dataclass(frozen=True)
class PatchAdded:
    """A patch of the method or of a calibration round is in the head."""

    version: int
    scale: float
    norm: float  # L2, as added
    numbers: Mapping[str, float] = field(default_factory=dict)  # what was measured on the way


@dataclass(frozen=True)
class PatchRefused:
    """No scale kept utility, or the images to check it with are missing."""

    reason: str
    final: bool = True  # false: this round is skipped, the erasure goes on


@dataclass(frozen=True)
class LabStepDone:
    """The simulator carried out a step of its own."""

    version: int


@dataclass(frozen=True)
class DeltasArrived:
    """The wait is over."""

    version: int


Outcome: TypeAlias = (
    TargetAnswered | TargetSilent | PatchAdded | PatchRefused | DeltasArrived | LabStepDone
)


class Method(Protocol):
    """An unlearning method. Built from its entry point with its arguments as keywords."""

    offer: ClassVar[Offer]

    def begin(self, case: Case) -> State:
        """State before the first step.

        Raises MethodRefused if the services refuse the method and the case is not of the
        laboratory, LevelRefused if it cannot give the level.
        """
        ...

    def next_step(self, state: State) -> Step:
        """The step to carry out now; the same state gives the same step."""
        ...

    def fold(self, state: State, outcome: Outcome) -> State:
        """State after the outcome of `next_step(state)`. Returns a new one."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A method that has a patch ready when the removal happens.

    The subject is fenced, training goes on in the old epoch, and the patch is computed for the
    head as it will be without the subject. The patch follows the removal at once, so that hardly
    a site trains from the head that the removal alone leaves; in the services the two are not one
    transaction.
    """

    def preparation(self) -> Recombine:
        """What to compute before the removal."""
        ...
