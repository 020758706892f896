"""What the agent's use cases need from the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from client_agent.domain.answers import Answer, ForgetStatistic, Utility
from client_agent.domain.tasks import Assignment, ModelFile, Pulse, Standing, TrainTask
from client_agent.domain.upload import Payload, Receipt, Upload
from letheon.federation.parameters import Layout
from letheon.federation.plan import Plan


class Coordinator(Protocol):
    """The coordinator as a site sees it. Every method raises LetheonError only."""

    def plan(self) -> Plan:
        """The plan of the federation."""

    def register(self, *, display_name: str, holdings: Holdings, plan_digest: str) -> Standing:
        """Enrols the site, or says again who it is and what it brings."""

    def next_task(self, abandoned_task: str) -> Assignment:
        """The next task, or how long to wait."""

    def heartbeat(self, task: str) -> Pulse:
        """A sign of life; the answer says whether the task is still of use."""

    def download(self, version: int | None, path: Path) -> ModelFile:
        """Writes a version (None: the head) to `path`, resuming what is there."""

    def receipt_of(self, upload: Upload) -> Receipt | None:
        """The receipt if the coordinator accepted the payload; nothing is sent."""

    def push(self, upload: Upload, layout: Layout) -> Receipt:
        """Sends a payload, resuming at what the coordinator holds. Idempotent by update_id.

        Raises PayloadDamaged, before a byte leaves, if the file is not what was written.
        """

    def submit(self, task: str, answer: Answer) -> None:
        """Answers an evaluate, audit or erase task. Idempotent."""


@dataclass(frozen=True)
class Holdings:
    """What the site brings: counts only."""

    train_records: int
    control_records: int
    validation_records: int
    class_counts: Mapping[str, int]  # training records by class name
    record_set: str  # fingerprint of the training records
    record_set_file: Path  # JSON list of their ids; never leaves the site


@dataclass(frozen=True)
class TrainedDelta:
    """A delta ready for the outbox."""

    payload: Payload
    mean_loss: float
    steps: int
    holdings: Holdings  # what it was trained on


@dataclass(frozen=True)
class ErasePatch:
    """The payload of an erase answer and its numbers."""

    payload: Payload
    norm: float
    steps: int
    loss_before: float
    loss_after: float


class Trainer(Protocol):
    """The one process that holds data and torch.

    Every working method raises TaskAbandoned after `abandon` or `stop`, TrainingProcessDied if
    the process ended, and LetheonError for what it says itself (BadData, UnknownPlugin, ...).
    """

    def open(self) -> Holdings:
        """Loads the data and fixes the split."""

    def adopt(self, plan: Plan) -> None:
        """Checks that model plug-in and data fit the plan and keeps it for what follows."""

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        """Local steps from `base`; the encoded delta is durable at `target` on return."""

    def evaluate(self, model: ModelFile) -> Utility:
        """Utility on the validation records."""

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        """Training records against control records."""

    def erase(
        self, model: ModelFile, parameters: Mapping[str, Any], seed: int, target: Path
    ) -> ErasePatch:
        """Projected gradient ascent from `model`; the encoded patch is durable at `target`."""

    def abandon(self) -> None:
        """Ends the command in flight, from any thread; harmless when there is none."""

    def stop(self, grace_s: float) -> None:
        """Ends the process and refuses further commands; from any thread."""


class Outbox(Protocol):
    """Uploads that must arrive, and the log of those that did. Durable."""

    def add(self, upload: Upload) -> Upload:
        """Moves the payload in and commits the row; returns it with its final path."""

    def waiting(self) -> tuple[Upload, ...]:
        """Uploads that have not arrived: erasures first, then oldest first."""

    def accept(self, upload: Upload, receipt: Receipt) -> None:
        """Keeps the receipt; the payload of a delta is removed."""

    def close(self, upload: Upload, reason: str) -> None:
        """Ends an upload without a receipt (`reason`: closed vocabulary) and removes it."""

    def conclude(self, upload: Upload) -> None:
        """The answer that belongs to a stored payload has arrived."""

    def remember_records(self, record_set: str, record_ids: Sequence[str]) -> None:
        """Keeps which records a fingerprint stands for."""

    def begin_attempt(self, task: str) -> int:
        """Counts one more try of a task, durably; returns the number of this one, from 1."""

    def end_attempts(self, task: str) -> None:
        """The task has ended; forget how often it was tried."""
