"""What the calibrator knows of an erasure, and the identifiers it derives from it.

Identifiers depend on the erasure and the step only, so that a calibrator that takes over repeats
the same calls with the same names and changes nothing twice.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime

_NAMESPACE = uuid.UUID("6f9d3c1e-6f0b-5b5d-9d56-2a4bb0f0a9c4")
_SEED_BITS = 31


@dataclass(frozen=True)
class Ticket:
    """The right to work on an erasure."""

    erasure: str  # erasures/{erasure}
    token: int  # fencing token


@dataclass(frozen=True)
class Erasure:
    """One erasure as the coordinator tells it."""

    name: str
    request_id: str
    site: str  # sites/{site}
    legal_basis: str
    level: str
    method: str
    calibrate: bool
    requested_at: datetime
    fenced_at: datetime
    deadline: datetime
    promoted_at: datetime | None
    level_admitted: str = "L1"  # the highest that can be granted
    caveats: tuple[str, ...] = ()  # what must not be concluded, a sentence each
    uncertifiable: str = ""  # why no certificate can be given, a sentence
    records: str = ""  # the opaque reference, if the subject is some records of the site


@dataclass(frozen=True)
class Claim:
    """The job under a lease."""

    erasure: Erasure
    ticket: Ticket
    lease_s: float
    progress_json: str  # empty at first


@dataclass(frozen=True)
class Removal:
    """What the removal did."""

    epoch: int
    version_before: int
    version_after: int
    sha256_before: str
    sha256_after: str
    contribution_norm: float
    head_norm_before: float
    removed_entries: int
    voided_entries: int
    subtracted: bool
    exchanged: bool = False  # deltas with the records gave way to deltas without them


@dataclass(frozen=True)
class ModelRef:
    """One version of the model."""

    version: int
    epoch: int
    sha256: str


def derived_uuid(erasure: str, *step: object) -> str:
    """The UUID of a step of an erasure: the same for whoever carries it out."""
    return str(uuid.uuid5(_NAMESPACE, "/".join([erasure, *map(str, step)])))


def derived_seed(erasure: str, *step: object) -> int:
    """A seed of 31 bits for a step of an erasure."""
    text = "/".join([erasure, *map(str, step)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> (64 - _SEED_BITS)
