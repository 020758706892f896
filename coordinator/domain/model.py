"""Model versions as files, checkpoints, contributions and exports: what is derived or kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class FederationRow:
    """The one row that says what is trained and what is served."""

    id: str
    plan_digest: str
    plan_json: str  # canonical
    serving_version: int | None
    withheld_version: int | None  # served before an erasure took it away
    serving_carries_subject: bool
    candidate_version: int | None  # under evaluation by the sites
    candidate_since: datetime | None
    last_advance_entry: int  # newest ledger row when the serving version was last considered


@dataclass(frozen=True)
class ModelFile:
    """A version written out as float32 little-endian bytes, named by its digest."""

    version: int
    epoch: int
    sha256: str
    size_bytes: int
    written_at: datetime


@dataclass(frozen=True)
class Destroyed:
    """Versions first..last can never be rebuilt."""

    first_version: int
    last_version: int
    erasure: str
    at: datetime


@dataclass(frozen=True)
class Checkpoint:
    """The head after an entry, durable as a blob. An anchor's digest is a ledger entry."""

    entry: int
    version: int
    epoch: int
    sha256: str
    written_at: datetime
    is_anchor: bool = False


@dataclass(frozen=True)
class Contribution:
    """What a site added up to and including an entry; None is the zero vector."""

    site: str
    folded_through: int
    sha256: str | None
    terms: int  # how many were folded since the last removal


@dataclass(frozen=True)
class Term:
    """One addition to the weights, attributed to a site."""

    entry: int  # that added it: a delta, patch, flush or removal entry
    of_entry: int  # that holds the payload: the same, or the buffered entry
    coefficient: float
    payload_sha256: str
    encoding: str


@dataclass(frozen=True)
class BufferedDelta:
    """A delta kept apart until its buffer fills (`flushed_by`), or its subject is fenced."""

    entry: int
    site: str
    staleness: int
    record_count: int
    norm: float
    payload_sha256: str
    encoding: str
    flushed_by: int | None = None
    coefficient: float | None = None
    voided_by: int | None = None


@dataclass(frozen=True)
class Export:
    """Somebody took a copy of a served version."""

    request_id: str
    version: int
    recipient: str
    purpose: str
    exported_at: datetime
    without: list[str] = field(default_factory=list)  # sites left out of a rebuilt version


@dataclass(frozen=True)
class Compaction:
    """Payloads of rows up to an anchor were given up; the rows keep their digests.

    `finished` is false from the transaction that decided it until the files are gone.
    """

    through_entry: int  # row of the anchor that stands in for them
    payloads: int
    freed_bytes: int
    at: datetime
    finished: bool


@dataclass(frozen=True)
class Leadership:
    """Which process may write; the token grows at every change of hands and fences the last."""

    name: str
    holder: str
    token: int
    lease_until: datetime
