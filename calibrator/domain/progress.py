"""How far an erasure has come: all of it is JSON at the coordinator.

Whoever holds the claim reads it, does the next step and stores it again; a process killed between
any two steps loses nothing but the time the step took.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from calibrator.domain.case import ModelRef, Removal
from letheon.errors import MalformedRequest
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.unlearning.gate import Judgement

SCHEMA = 1


class Stage(StrEnum):
    """What is to be done next."""

    REMOVE = "remove"
    METHOD = "method"
    GATE = "gate"
    RECORD = "record"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(_Part):
    """A question to sites that awaits its answers."""

    request_id: str
    at: datetime


class PendingPatch(_Part):
    """A patch that was made and is on its way into the head."""

    update_id: str
    sha256: str
    epoch: int
    base_version: int
    scale: float
    norm: float  # L2, as added
    numbers: dict[str, float]
    site: str = ""  # sites/{site} whose contribution it is made of


class SitePatches(_Part):
    """Patches made of single sites' contributions, on their way into the head."""

    patches: tuple[PendingPatch, ...]  # in the order they are sent
    sent: int = 0  # of them, each counted in `own_patches`
    version: int = 0  # after the last one sent
    norm: float  # L2, of their sum
    numbers: dict[str, float]


class MethodProgress(_Part):
    """Where the method stands."""

    snapshot: ModelRef  # what it started from
    state: dict[str, Any]
    asked: Asked | None = None
    wait_until: int | None = None  # version
    pending: PendingPatch | None = None
    site_patches: SitePatches | None = None
    preparation_done: bool = False  # its patches are in, or were refused
    tries: int = 0  # update ids of the present step that another payload had used up


class ExchangeProgress(_Part):
    """Records of a site that stays: how far their removal has come."""

    since: datetime
    asked: Asked | None = None  # the agent, to recompute
    version: int = 0  # the head it was asked about
    restarts: int = 0  # later removals after which it was asked again
    pending: PendingPatch | None = None
    tries: int = 0  # update ids that another payload had used up
    is_added: bool = False  # the patch is in the head
    readmitted_because: str = ""  # why the site is removed and readmitted instead, a sentence

    def asked_again(self) -> ExchangeProgress:
        """As before the agent was asked, under another name."""
        update = {"asked": None, "pending": None, "restarts": self.restarts + 1}
        return self.model_copy(update=update)


class Candidate(_Part):
    """A version under test."""

    model: ModelRef
    accepted: int  # retained deltas since the removal, when it was chosen
    evaluated: tuple[int, ...]  # versions retained sites are asked about
    audited: tuple[int, ...]  # versions the subject is asked about
    evaluate: Asked
    audit: Asked
    enough_at: datetime | None = None  # half of the sites, and the audit, had answered by then


class Judged(_Part):
    """A run of the gate that is decided but perhaps not yet recorded."""

    number: int  # of the attempt, from 1
    model: ModelRef
    accepted: int
    at: datetime
    judgement: Judgement


class GateProgress(_Part):
    """Where the gate stands."""

    attempts: int = 0  # recorded
    questions: int = 0  # rounds of questions sent: names them
    accepted_at_last: int = 0
    before: dict[str, float] = Field(default_factory=dict)  # site -> accuracy before the erasure
    before_audit: ForgetStatistic | None = None  # the positive control
    candidate: Candidate | None = None
    judged: Judged | None = None
    reasons: tuple[str, ...] = ()  # why attempts did not pass, newest last


class Progress(_Part):
    """Everything the next step depends on."""

    schema_version: int = SCHEMA
    stage: Stage = Stage.REMOVE
    stage_since: datetime
    salt: str  # of the subject's commitment
    preparation_tried: bool = False  # of a method that prepares patches for the removal
    prepared_patches: SitePatches | None = None  # until the method begins
    exchange: ExchangeProgress | None = None  # of records, until their removal
    removal: Removal | None = None
    restarts: int = 0  # later removals that made the method start over
    own_patches: int = 0  # versions that the calibrator itself added since the removal
    method: MethodProgress | None = None
    steps: tuple[dict[str, Any], ...] = ()  # facts for the certificate
    gate: GateProgress = GateProgress()

    def require_removal(self) -> Removal:
        """The removal; every stage but the first has one."""
        if self.removal is None:
            raise MalformedRequest("the stored progress has no removal")
        return self.removal

    def accepted_since_removal(self, head_version: int) -> int:
        """Retained deltas merged since the removal: versions but for the calibrator's own."""
        return max(0, head_version - self.require_removal().version_after - self.own_patches)

    def restarted(self, now: datetime) -> Progress:
        """After a later removal: the method starts over and its tests run again."""
        gate = self.gate.model_copy(update={"candidate": None, "judged": None})
        return self.model_copy(
            update={
                "stage": Stage.METHOD,
                "stage_since": now,
                "restarts": self.restarts + 1,
                "method": None,
                "prepared_patches": None,
                "gate": gate,
            }
        )


def read_progress(text: str) -> Progress | None:
    """The stored progress, None before the first step. Raises MalformedRequest."""
    if not text:
        return None
    try:
        progress = Progress.model_validate_json(text)
    except ValueError as error:
        raise MalformedRequest("the stored progress is not of this calibrator's schema") from error
    if progress.schema_version != SCHEMA:
        raise MalformedRequest(f"the stored progress has schema {progress.schema_version}")
    return progress
