"""Whose records are erased: pseudonyms under the site's key, and references that open to them.

A token is HMAC-SHA-256 of an identifier under 32 random bytes that never leave the site: without
the key nobody finds an identifier by trying all of them. What the centre is told is a reference,
salted SHA-256 over tokens: not even the token leaves, and two requests cannot be linked.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

KEY_BYTES = 32
SALT_BYTES = 32


@dataclass(frozen=True)
class SiteKey:
    """The secret that makes pseudonyms; its bytes are in no repr."""

    secret: bytes = field(repr=False)

    def of_patient(self, patient: str) -> str:
        """The pseudonym of a patient identifier, hex."""
        return self._token(b"patient", patient)

    def of_record(self, record: str) -> str:
        """The pseudonym of a record identifier, hex; never that of a patient of the same name."""
        return self._token(b"record", record)

    def _token(self, kind: bytes, identifier: str) -> str:
        message = kind + b"\0" + identifier.encode()
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()


def reference_of(tokens: Iterable[str], salt: bytes) -> str:
    """The commitment to a set of pseudonyms: sha256 of the salt and the sorted tokens, hex.

    Whoever holds salt and tokens can show what the reference stands for, nobody else can.
    """
    digest = hashlib.sha256(salt)
    for token in sorted(set(tokens)):
        digest.update(bytes.fromhex(token))
    return digest.hexdigest()


class SubjectState(StrEnum):
    """Collecting -> due -> filed -> certified | failed | cancelled; referred -> filed."""

    COLLECTING = "collecting"  # excluded already; waits for others to be erased with
    DUE = "due"  # to be filed
    REFERRED = "referred"  # in use; the centre may ask for it under this reference
    FILED = "filed"
    CERTIFIED = "certified"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Subject:
    """Records that are erased together. Holds pseudonyms, not identifiers."""

    number: int
    reference: str  # empty while collecting
    tokens: tuple[str, ...] = field(repr=False)
    basis: str  # code of the legal basis
    state: SubjectState
    erasure: str  # erasures/{erasure}, empty until filed
    made_at: datetime

    @property
    def request_id(self) -> str:
        """The same at every repetition of its request."""
        return f"records-{self.reference}"


@dataclass(frozen=True)
class Recomputation:
    """How far a site's recomputation of its deltas has come."""

    task: str
    exclusions: int  # generation of the exclusions it leaves out
    done: int  # deltas
    update_id: str  # of its answer


@dataclass(frozen=True)
class IndexedRecord:
    """A record of the source and its patient's pseudonym, None where patients are not known."""

    record: str = field(repr=False)
    patient: str | None


def is_excluded(record: IndexedRecord, key: SiteKey, excluded: frozenset[str]) -> bool:
    """Whether the record, or its patient, is among the excluded tokens."""
    return record.patient in excluded or key.of_record(record.record) in excluded


def without(records: Sequence[IndexedRecord], key: SiteKey, excluded: frozenset[str]) -> list[str]:
    """The identifiers of the records that may be used, in order."""
    return [one.record for one in records if not is_excluded(one, key, excluded)]
