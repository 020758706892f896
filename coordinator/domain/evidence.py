"""What others check later: keys and signatures of sites, leaves of the log, and who has what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True)
class SiteKey:
    """A key with which a site signs its updates; the newest without an end is the present one."""

    site: str
    key_id: str
    public_pem: str
    since_entry: int  # ledger rows after it need a signature
    registered_at: datetime
    until_entry: int | None = None  # set when another key took over, or an operator let it go


@dataclass(frozen=True)
class EntrySignature:
    """The signature of the site whose delta a ledger row holds."""

    entry: int
    key_id: str
    signature: str  # base64


class LeafKind(StrEnum):
    """What a leaf of the transparency log holds."""

    CERTIFICATE = "certificate"
    AMENDMENT = "amendment"
    AUDIT_HEAD = "audit_head"


@dataclass(frozen=True)
class Leaf:
    """One leaf; `leaf_hash` is that of RFC 6962, hex."""

    number: int  # gap-free from 0
    kind: LeafKind
    erasure: str | None
    content: bytes
    leaf_hash: str
    at: datetime


@dataclass(frozen=True)
class SignedCheckpoint:
    """The log with so many leaves, as a signed note."""

    size: int
    note: str
    at: datetime


@dataclass(frozen=True)
class Download:
    """What a site has read of one epoch: versions first..last, or some of them."""

    site: str
    epoch: int
    first_version: int
    last_version: int
    first_at: datetime
    last_at: datetime
