"""What the use cases need of the world.

Every method raises the errors of `letheon.errors` and may be repeated: a step already done gives
its recorded result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from calibrator.domain.case import Claim, Erasure, ModelRef, Removal, Ticket
from calibrator.domain.contributions import Recombination, RetainedPart
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan
from letheon.servicekit.erasure_queue import ConsentRequest
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.gate import Judgement
from letheon.unlearning.method import TargetAnswered

Stage = Literal["calibrating", "verifying"]
PatchKind = Literal["patch", "calibration"]


@dataclass(frozen=True)
class UtilityAnswer:
    """Accuracy of one version on one site's validation records."""

    version: int
    records: int
    accuracy: float


@dataclass(frozen=True)
class EvaluateAnswered:
    """A retained site's answer."""

    utilities: tuple[UtilityAnswer, ...]


@dataclass(frozen=True)
class AuditAnswered:
    """The subject's own audit, by version."""

    statistics: Mapping[int, ForgetStatistic]


@dataclass(frozen=True)
class ExcludeAnswered:
    """The site uses the records no longer, or knows none under the reference."""

    found: bool


@dataclass(frozen=True)
class CannotAnswer:
    """A site says that it cannot do the task."""

    reason: str


@dataclass(frozen=True)
class Answer:
    """One task and its outcome, None while unanswered."""

    site: str
    outcome: (
        EvaluateAnswered | AuditAnswered | TargetAnswered | ExcludeAnswered | CannotAnswer | None
    )


@dataclass(frozen=True)
class Attempt:
    """One run of the gate, as recorded."""

    number: int
    version: int
    judgement: Judgement
    at: datetime
    accepted_since_removal: int


@dataclass(frozen=True)
class Recorded:
    """A recorded attempt."""

    erasure: Erasure
    evidence: Mapping[str, Any]  # process evidence, of a passing attempt


@dataclass(frozen=True)
class PatchUpload:
    """An encoded patch, ready to be added to the head."""

    update_id: str
    path: Path
    size_bytes: int
    sha256: str  # hex
    kind: PatchKind
    epoch: int
    base_version: int
    site: str = ""  # sites/{site} whose contribution it is made of


class Claims(Protocol):
    """Taking, keeping and ending jobs."""

    def request(self, request: ConsentRequest) -> str:
        """Files a request found in the queue, idempotent; returns the erasure's name."""
        ...

    def claim(self, erasure: str, holder: str) -> Claim:
        """Takes the job. Raises UnknownErasure, ClaimHeld, ErasureConcluded."""
        ...

    def renew(self, ticket: Ticket, progress_json: str | None, stage: Stage | None) -> None:
        """Keeps the lease; stores progress and state if given. Raises ClaimLost."""
        ...

    def release(self, ticket: Ticket) -> None:
        """Gives the job back, so that another calibrator can take it at once. Raises ClaimLost."""
        ...

    def conclude(self, ticket: Ticket, end: Certified | Failed) -> None:
        """Ends the job."""
        ...


@dataclass(frozen=True)
class Certified:
    """The erasure is done; the file is its certificate."""

    certificate: bytes


@dataclass(frozen=True)
class Failed:
    """The erasure cannot be done; the fence stays."""

    reason: str


class Head(Protocol):
    """Reading the plan and the model."""

    def plan(self) -> Plan:
        """The plan."""
        ...

    def head_version(self) -> int:
        """The newest version."""
        ...

    def pin_head(self) -> ModelRef:
        """Has the newest version written out, so that sites can be asked about it."""
        ...

    def download_head(self, directory: Path) -> tuple[ModelRef, Vector]:
        """The newest version, [d] float32."""
        ...


class Removals(Protocol):
    """The two atomic steps of an erasure that the coordinator carries out."""

    def remove(self, ticket: Ticket) -> Removal:
        """The removal transaction."""
        ...

    def record_attempt(self, ticket: Ticket, attempt: Attempt) -> Recorded:
        """Records a run of the gate; a passing one promotes, anchors, replays and destroys."""
        ...


class Contributions(Protocol):
    """Reading what the sites that stay contributed."""

    def retained_parts(
        self, ticket: Ticket, segments: int, *, with_subject: bool = False
    ) -> Sequence[RetainedPart]:
        """Each retained site's contribution in up to `segments` parts, oldest first.

        Before the removal, if asked for, the subject's as one part before them.

        Raises PatchVoid if an erasure names one of the sites meanwhile.
        """
        ...


class Sites(Protocol):
    """Asking sites. `request_id` names the question; asking twice asks once."""

    def ask_evaluate(self, ticket: Ticket, request_id: str, versions: Sequence[int]) -> None:
        """Utility of the versions, from every active site."""
        ...

    def ask_audit(
        self, ticket: Ticket, request_id: str, versions: Sequence[int], seed: int
    ) -> None:
        """The forget statistic of the versions, from the subject."""
        ...

    def ask_erase(
        self,
        ticket: Ticket,
        request_id: str,
        *,
        method: str,
        parameters: Mapping[str, Any],
        version: int,
        seed: int,
    ) -> None:
        """The agent's part of a method, from the subject."""
        ...

    def answers(self, ticket: Ticket, request_id: str) -> tuple[Answer, ...]:
        """Every task of the question; empty if no site could be asked."""
        ...

    def download_answer(self, ticket: Ticket, update_id: str, directory: Path) -> Vector:
        """The payload of an erase answer, [d] float32."""
        ...


class Patches(Protocol):
    """Adding patches to the head."""

    def merged_version(self, update_id: str) -> int | None:
        """Version after the patch was added, None if it was not."""
        ...

    def push(self, ticket: Ticket, patch: PatchUpload) -> int:
        """Adds a patch; returns the version after it.

        Raises PatchVoid if a later removal happened, UpdateAltered if the update id was used for
        other bytes.
        """
        ...


class Coordinator(Claims, Head, Removals, Contributions, Sites, Patches, Protocol):
    """All of it, as one connection offers it."""


@dataclass(frozen=True)
class Trial:
    """A patch that was tried on the audit images."""

    patch: np.ndarray[Any, np.dtype[np.float32]]  # [d] as to be added
    scale: float
    accuracy_before: float
    accuracy_after: float
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Rejected:
    """Nothing may be added; a sentence with the numbers."""

    reason: str
    unequipped: bool = False  # the images to work with are missing, or of another task


class Laboratory(Protocol):
    """The only part that runs a network: patch checks, calibration and computed patches."""

    def try_patch(
        self, head: Vector, patch: Vector, scales: Sequence[float], allowed_drop: float
    ) -> Trial | Rejected:
        """The largest scale whose accuracy on the audit images drops by at most `allowed_drop`."""
        ...

    def calibrate(
        self,
        head: Vector,
        parameters: Mapping[str, Any],
        *,
        seed: int,
        cap_norm: float,
        allowed_drop: float,
    ) -> Trial | Rejected:
        """One round of invariance calibration from `head`, its change capped to `cap_norm`."""
        ...

    def compute_patch(
        self,
        head: Vector,
        rule: str,
        parameters: Mapping[str, Any],
        *,
        seed: int,
        allowed_drop: float | None,
    ) -> Trial | Rejected:
        """The patch that a rule of `letheon.unlearning.server_rules` makes from `head`.

        Rejected if accuracy on the audit images drops by more than `allowed_drop`; None: measured
        only. Raises BadConfig for an unknown rule or parameters it does not take.
        """
        ...

    def recombine(
        self,
        head: Vector,
        parts: Sequence[RetainedPart],
        parameters: Mapping[str, Any],
        *,
        seed: int,
        allowed_drop: float,
    ) -> Recombination | Rejected:
        """`head` refitted as a weighted sum of the parts; no patch is capped.

        Rejected if accuracy on the audit images drops by more than `allowed_drop`. Raises BadConfig
        for parameters it does not take.
        """
        ...
