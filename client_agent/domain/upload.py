"""A payload on its way to the coordinator, and the proof that it arrived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from client_agent.domain.answers import EraseAnswer
from letheon.errors import Corrupt


class UploadState(StrEnum):
    """Ready -> accepted | dropped; an erase payload passes through stored."""

    READY = "ready"
    STORED = "stored"  # the payload of an erase answer has arrived, the answer has not
    ACCEPTED = "accepted"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Payload:
    """Encoded bytes on disk."""

    path: Path
    size_bytes: int
    sha256: str  # hex
    encoding: str  # float32 or float16, as the plan says


@dataclass(frozen=True)
class DeltaFacts:
    """What the coordinator and the contribution log must know of a training delta."""

    base_version: int
    epoch: int
    seed: int
    learning_rate: float  # with base, seed and records: what makes the delta reproducible
    exclusion_counter: int
    record_count: int
    train_loss: float
    record_set: str  # fingerprint of the records it was trained on
    exclusions: int = 0  # generation of the exclusions it was trained under


@dataclass(frozen=True)
class Upload:
    """A row of the outbox."""

    update_id: str
    task: str
    payload: Payload
    purpose: DeltaFacts | EraseAnswer
    state: UploadState = UploadState.READY
    made_at: datetime | None = None  # UTC; None until the outbox holds it

    @property
    def is_delta(self) -> bool:
        """Whether this is training; anything else belongs to an erasure and is never dropped."""
        return isinstance(self.purpose, DeltaFacts)


class ReceiptOutcome(StrEnum):
    """What became of an accepted payload."""

    MERGED = "merged"
    BUFFERED = "buffered"
    STORED = "stored"


@dataclass(frozen=True)
class Receipt:
    """The coordinator's durable proof of acceptance."""

    update_id: str
    outcome: ReceiptOutcome
    version: int
    coefficient: float
    staleness: int
    entry: int
    ledger_hash: str
    sha256: str  # of the payload as merged, hex


class DropReason(StrEnum):
    """Why the agent itself gives an upload up; a refusal is dropped with the refusal's reason."""

    TOO_OLD = "TOO_OLD"
    STALE_EPOCH = "STALE_EPOCH"
    RECORDS_EXCLUDED = "RECORDS_EXCLUDED"
    PAYLOAD_CORRUPT = "PAYLOAD_CORRUPT"


class PayloadDamaged(Corrupt):
    """The payload in the outbox is not the one that was written there, or is gone."""
