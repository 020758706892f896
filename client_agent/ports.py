"""What the agent's use cases need from the outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from client_agent.domain.answers import Answer, ForgetStatistic, Utility
from client_agent.domain.privacy import Charge, PrivacyStanding, Quote
from client_agent.domain.subjects import (
    IndexedRecord,
    Recomputation,
    SiteKey,
    Subject,
    SubjectState,
)
from client_agent.domain.tasks import Assignment, ModelFile, Pulse, Standing, TrainTask
from client_agent.domain.upload import DeltaFacts, Payload, Receipt, Upload
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

    def download_named(self, name: str, path: Path) -> ModelFile:
        """Writes what an exchange needs (`erasures/{erasure}/...`) to `path`, resuming it."""

    def request_erasure(self, request_id: str, records: str, basis: str) -> str:
        """Files a request for records of this site; the erasure's name. Idempotent."""

    def erasure_state(self, erasure: str) -> str:
        """The state of an erasure, lower case, such as `certified`."""

    def receipt_of(self, upload: Upload) -> Receipt | None:
        """The receipt if the coordinator accepted the payload; nothing is sent."""

    def push(self, upload: Upload, layout: Layout) -> Receipt:
        """Sends a payload, resuming at what the coordinator holds. Idempotent by update_id.

        Raises PayloadDamaged, before a byte leaves, if the file is not what was written.
        """

    def submit(self, task: str, answer: Answer) -> None:
        """Answers an evaluate, audit or erase task. Idempotent."""


class LogReader(Protocol):
    """The transparency log of the coordinator. Every method raises LetheonError only."""

    def checkpoint(self) -> str:
        """The newest checkpoint, a signed note."""

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """The proof that the log of `second` entries begins with that of `first`."""


@dataclass(frozen=True)
class Holdings:
    """What the site brings: counts only."""

    train_records: int
    control_records: int
    validation_records: int
    class_counts: Mapping[str, int]  # training records by class name
    record_set: str  # fingerprint of the training records
    record_set_file: Path  # JSON list of their ids; never leaves the site
    index_file: Path | None = None  # JSON list of [record id, patient's pseudonym] of all records
    skipped: Mapping[str, int] = field(default_factory=dict)  # left out by the source, by reason


@dataclass(frozen=True)
class TrainedDelta:
    """A delta ready for the outbox."""

    payload: Payload
    mean_loss: float
    steps: int
    holdings: Holdings  # what it was trained on
    num_examples: int | None = None  # what it weighs by; None: all records it was trained on
    is_private: bool = False  # trained as the last quote said


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

    def adopt(self, plan: Plan) -> PrivacyStanding | None:
        """Checks that model plug-in and data fit the plan and keeps it for what follows.

        Where the site trains privately, it says how much is spent.
        """

    def quote(self) -> Quote:
        """What the next training costs, where the site trains privately."""

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        """Local steps from `base`; the encoded delta is durable at `target` on return.

        Where the site trains privately, the last quote must have been charged.
        """

    def evaluate(self, model: ModelFile) -> Utility:
        """Utility on the validation records."""

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        """Training records against control records."""

    def erase(
        self, model: ModelFile, parameters: Mapping[str, Any], seed: int, target: Path
    ) -> ErasePatch:
        """Projected gradient ascent from `model`; the encoded patch is durable at `target`."""

    def retrain(
        self, base: ModelFile, record_ids: Path, rate: float, seed: int, target: Path
    ) -> Payload:
        """As `train`, on the records that the file names: a delta of the past, made again.

        A JSON list; null stands in the place of a record that is left out, see `batch_rows`.
        """

    def audit_subject(self, model: ModelFile, seed: int, tokens: Sequence[str]) -> ForgetStatistic:
        """The subject's training records against control records like them, told coarsely.

        Raises Refused for too few.
        """

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

    def facts_of(self, update_id: str) -> DeltaFacts | None:
        """How an accepted delta was made, or None if this log does not know it."""

    def remember_records(self, record_set: str, record_ids: Sequence[str]) -> None:
        """Keeps which records a fingerprint stands for."""

    def begin_attempt(self, task: str) -> int:
        """Counts one more try of a task, durably; returns the number of this one, from 1."""

    def end_attempts(self, task: str) -> None:
        """The task has ended; forget how often it was tried."""


class RecordIndex(Protocol):
    """Which record is whose, by pseudonym. Durable; never leaves the site."""

    def replace(self, records: Sequence[IndexedRecord]) -> None:
        """Makes the index what the source holds now."""

    def of(self, record_ids: Iterable[str]) -> list[IndexedRecord]:
        """These records with their patients, in this order."""

    def record_set(self, fingerprint: str) -> list[str | None] | None:
        """The records a delta was trained on, or None if that is not known any more.

        None stands in the place of a record that is forgotten.
        """


class Subjects(Protocol):
    """Who is erased, and what may not be used any more. Durable; never leaves the site."""

    def exclude(self, reference: str, erasure: str) -> bool:
        """Excludes what the reference stands for; False if it stands for nothing here."""

    def by_reference(self, reference: str) -> Subject | None:
        """The subject, or None if the reference stands for nothing here."""

    def seal_collected(self, window: timedelta) -> None:
        """Makes what has collected for so long due."""

    def in_state(self, state: SubjectState) -> list[Subject]:
        """Those in that state, oldest first."""

    def filed(self, subject: Subject, erasure: str) -> None:
        """The coordinator has acknowledged the request."""

    def conclude(self, subject: Subject, state: SubjectState, key: SiteKey) -> None:
        """Its erasure ended. Certified: which contributions held it is forgotten here too."""

    def excluded(self, through: int | None = None) -> frozenset[str]:
        """Tokens that may not be used; with `through`, as they were at that generation."""

    def generation(self) -> int:
        """Grows with every exclusion: what was trained under an older one may hold a subject."""

    def erased(self) -> frozenset[str]:
        """Tokens of certified subjects."""


class PrivacyLedger(Protocol):
    """Every private training that may have left the site. Durable."""

    def charge(
        self, update_id: str, charge: Charge, standing: PrivacyStanding, delta: float
    ) -> None:
        """Writes down what an update costs and where the site stands with it; once an update."""

    def spent(self) -> list[Charge]:
        """Everything charged; trainings of one kind are one charge with the sum of their steps."""


class ExchangeLog(Protocol):
    """How far each recomputation has come. Durable."""

    def begin(self, task: str, exclusions: int, update_id: str) -> Recomputation:
        """How far it has come; these are kept if it is new."""

    def step(self, task: str, done: int) -> None:
        """So many deltas are recomputed, and their sum is durable."""

    def end(self, task: str) -> None:
        """It was answered or given up."""
