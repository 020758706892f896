"""Uploads and their receipts: what makes a repeated call harmless."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from letheon.errors import UpdateAltered
from letheon.proof.update_signature import UpdateSignature


class Outcome(StrEnum):
    """What became of an accepted payload."""

    MERGED = "merged"
    BUFFERED = "buffered"
    STORED = "stored"
    QUARANTINED = "quarantined"  # kept apart and not merged until an operator decides


class PatchKind(StrEnum):
    """Who made a patch."""

    PATCH = "patch"
    CALIBRATION = "calibration"


@dataclass(frozen=True)
class DeltaPurpose:
    """A training delta of a site."""

    site: str
    task: str
    base_version: int
    epoch: int
    exclusion_counter: int
    record_count: int
    train_loss: float


@dataclass(frozen=True)
class AnswerPurpose:
    """The payload of an answer to an erase task."""

    site: str
    task: str


@dataclass(frozen=True)
class PatchPurpose:
    """A patch of the calibrator, added to the head."""

    erasure: str
    fencing_token: int
    kind: PatchKind
    epoch: int
    base_version: int
    site: str | None = None  # whose contribution it is made of, and grows by it


Purpose = DeltaPurpose | AnswerPurpose | PatchPurpose


@dataclass(frozen=True)
class Header:
    """The first message of an upload, parsed."""

    update_id: str
    size_bytes: int
    sha256: str  # hex
    offset: int
    layout: tuple[tuple[str, tuple[int, ...], str], ...]  # name, shape, dtype
    purpose: Purpose
    signature: UpdateSignature | None = None  # of the site that sends

    @property
    def encoding(self) -> str:
        """How the payload is written: the same for every tensor once the layout was checked."""
        return self.layout[0][2]


@dataclass(frozen=True)
class Upload:
    """An upload under way. How much of it is durable, the staging file says."""

    update_id: str
    sha256: str
    size_bytes: int
    site: str | None
    started_at: datetime


@dataclass(frozen=True)
class Receipt:
    """Durable proof of acceptance; the answer to every repetition."""

    update_id: str
    outcome: Outcome
    version: int
    coefficient: float  # 0 unless merged
    staleness: int
    entry: int  # 0 for a stored answer
    ledger_hash: str
    sha256: str  # of the payload as merged
    site: str | None
    task: str | None  # of a stored answer
    size_bytes: int
    encoding: str
    accepted_at: datetime


def check_same_bytes(update_id: str, *, known_sha256: str, sha256: str) -> None:
    """Raises UpdateAltered if the update id was used for other bytes."""
    if known_sha256 != sha256:
        raise UpdateAltered(
            f"update {update_id} was sent before with other bytes; use a new id",
            update_id=update_id,
        )
