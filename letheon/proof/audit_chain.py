"""The audit log: hash-chained rows of who did what to which object, with which outcome.

A row's hash is SHA-256 over its canonical JSON, which names the hash of the row before. As a file
it is one row a line: `{"hash":"<64 hex digits>","row":<canonical JSON>}` and a line feed, as the
ledger's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from letheon.errors import ProofInvalid
from letheon.proof.key_list import stamp
from letheon.servicekit.signing import canonical_json

GENESIS_HASH = "0" * 64
HEAD_FORMAT = "letheon-audit-head/1"
DONE, REFUSED = "done", "refused"


@dataclass(frozen=True)
class AuditRow:
    """One act. Names of sites, erasures and callers; never of a patient or record."""

    number: int  # gap-free from 0
    at: datetime
    role: str  # of the caller: site, operator, calibrator, ..., local, system
    caller: str
    serial: str  # of the caller's certificate, or empty
    action: str  # erasure.requested, model.exported, ...
    object: str  # resource name
    outcome: str  # done or refused
    details: Mapping[str, Any]
    previous_hash: str
    hash: str

    def canonical(self) -> bytes:
        """The bytes that are hashed: every field but `hash`."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "hash"}
        return canonical_json({**row, "at": stamp(self.at), "details": dict(self.details)})


def follow(
    previous: AuditRow | None,
    *,
    at: datetime,
    role: str,
    caller: str,
    serial: str,
    action: str,
    object_name: str,
    outcome: str,
    details: Mapping[str, Any],
) -> AuditRow:
    """The row after `previous` (None: the first), numbered, linked and hashed."""
    draft = AuditRow(
        number=0 if previous is None else previous.number + 1,
        at=at.astimezone(UTC),
        role=role,
        caller=caller,
        serial=serial,
        action=action,
        object=object_name,
        outcome=outcome,
        details=dict(details),
        previous_hash=GENESIS_HASH if previous is None else previous.hash,
        hash="",
    )
    return replace(draft, hash=hashlib.sha256(draft.canonical()).hexdigest())


def verify_rows(rows: Iterable[AuditRow], *, after: AuditRow | None = None) -> AuditRow | None:
    """The last row, once numbers, links and hashes hold. Raises ProofInvalid(row=the first bad)."""
    last = after
    for row in rows:
        number = 0 if last is None else last.number + 1
        if row.number != number:
            raise _bad(number, f"is missing: row {row.number} stands in its place")
        if row.previous_hash != (GENESIS_HASH if last is None else last.hash):
            raise _bad(number, "does not continue the row before it")
        if row.hash != hashlib.sha256(row.canonical()).hexdigest():
            raise _bad(number, "was altered: its hash differs")
        last = row
    return last


def line_of(canonical: bytes, row_hash: str) -> bytes:
    """The line of a row, with its line feed."""
    return b'{"hash":"' + row_hash.encode() + b'","row":' + canonical + b"}\n"


def parse(canonical: bytes, row_hash: str, number: int) -> AuditRow:
    """The row of its canonical bytes. Raises ProofInvalid for what is no row in canonical form."""
    try:
        found = json.loads(canonical)
        found["at"] = datetime.fromisoformat(found["at"])
        row = AuditRow(**found, hash=row_hash)
        intact = row.canonical() == canonical
    # Whoever can hash can write any JSON: times before the first year, lists without end.
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise _bad(number, "cannot be read") from error
    if not intact:
        raise _bad(number, "is not written in canonical form")
    return row


def verify_lines(lines: Iterable[bytes]) -> AuditRow:
    """The last row of an exported file, once all of it holds. Raises ProofInvalid."""
    last: AuditRow | None = None
    for number, line in enumerate(lines):
        row_hash = line[9:73].decode("ascii", "replace")
        canonical = line[81:-2]
        if line != line_of(canonical, row_hash):
            cut = "" if line.endswith(b"\n") else ", the file was cut there"
            raise _bad(number, f"is no line of an exported audit log{cut}")
        last = verify_rows([parse(canonical, row_hash, number)], after=last)
    if last is None:
        raise _bad(0, "is missing: the file has none")
    return last


def head_content(origin: str, head: AuditRow) -> bytes:
    """The leaf of the transparency log that fixes the audit log up to a row."""
    return canonical_json(
        {
            "format": HEAD_FORMAT,
            "origin": origin,
            "rows": head.number + 1,
            "hash": head.hash,
            "at": stamp(head.at),
        }
    )


def _bad(number: int, what: str) -> ProofInvalid:
    return ProofInvalid(f"row {number} of the audit log {what}", rule="audit", row=number)
