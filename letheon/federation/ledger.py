"""The ledger: hash-chained rows of everything that changed the model.

A row's hash is SHA-256 over its canonical bytes, which name the hash of the row before it. The
canonical bytes are UTF-8 JSON with sorted keys and no spaces; a float is written as
`float.hex()`, so that no parser rounds it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from letheon.errors import LedgerBroken

GENESIS_HASH = "0" * 64  # what the first row names as the hash before it
FIRST_ENTRY = 0


class EntryKind(StrEnum):
    """What a row records."""

    INITIAL = "initial"
    DELTA = "delta"
    BUFFERED = "buffered"
    FLUSH = "flush"
    VOID = "void"
    REMOVAL = "removal"
    PATCH = "patch"
    CALIBRATION = "calibration"
    PROMOTION = "promotion"
    ANCHOR = "anchor"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row. Made by `seal`; `version` and `epoch` are those after the row.

    `site` is the identifier it is attributed to; `staleness` in versions; `coefficient` what the
    delta was multiplied by (delta rows); `payload_*` and `encoding` name the bytes as merged;
    `details` by kind: flush {"merged": [[entry, coefficient hex], ...]}; void {"entries": [...]};
    removal {"subtracted": bool, "contribution_sha256": str | None, "flushed": as merged}; anchor
    {"checkpoint_sha256", "contributions": {site: sha256}}; promotion {"version", "erasure"}.
    """

    entry: int
    kind: EntryKind
    version: int
    epoch: int
    site: str | None = None
    at: datetime
    update_id: str | None = None
    base_version: int | None = None
    staleness: int | None = None
    coefficient: float | None = None
    payload_sha256: str | None = None
    payload_bytes: int | None = None
    encoding: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    previous_hash: str
    hash: str


def _portable(value: object) -> object:
    """The value with floats as hex strings; only what JSON carries without loss."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("the ledger holds no NaN and no infinity")
        return value.hex()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of ledger details are strings")
        return {key: _portable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_portable(item) for item in value]
    raise TypeError(f"the ledger cannot hold a {type(value).__name__}")


def canonical_bytes(entry: Entry) -> bytes:
    """The bytes that are hashed: every field but `hash`.

    Raises ValueError for a time without zone, NaN or infinity; TypeError for details that JSON
    cannot carry.
    """
    if entry.at.tzinfo is None:
        raise ValueError("the time of a row names its zone")
    row = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "hash"}
    row["kind"] = entry.kind.value
    row["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(_portable(row), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def parse(canonical: bytes) -> Entry:
    """The row of its canonical bytes; its hash is computed from them.

    Floats in `details` stay hex strings. Raises LedgerBroken for bytes that are no row.
    """
    try:
        row = json.loads(canonical)
        row["kind"] = EntryKind(row["kind"])
        row["at"] = datetime.fromisoformat(row["at"])
        if row["coefficient"] is not None:
            row["coefficient"] = float.fromhex(row["coefficient"])
        return Entry(**row, hash=hashlib.sha256(canonical).hexdigest())
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerBroken(f"a row of the ledger cannot be read: {error!r}", entry="?") from error


def seal(
    previous: Entry | None,
    *,
    kind: EntryKind,
    version: int,
    epoch: int,
    at: datetime,
    site: str | None = None,
    update_id: str | None = None,
    base_version: int | None = None,
    staleness: int | None = None,
    coefficient: float | None = None,
    payload_sha256: str | None = None,
    payload_bytes: int | None = None,
    encoding: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Entry:
    """The row after `previous` (None: the first), numbered, linked and hashed.

    Raises as `canonical_bytes`.
    """
    draft = Entry(
        entry=FIRST_ENTRY if previous is None else previous.entry + 1,
        kind=kind,
        version=version,
        epoch=epoch,
        site=site,
        at=at if at.tzinfo is None else at.astimezone(UTC),
        update_id=update_id,
        base_version=base_version,
        staleness=staleness,
        coefficient=None if coefficient is None else float(coefficient),
        payload_sha256=payload_sha256,
        payload_bytes=payload_bytes,
        encoding=encoding,
        details=dict(details or {}),
        previous_hash=GENESIS_HASH if previous is None else previous.hash,
        hash="",
    )
    return replace(draft, hash=hashlib.sha256(canonical_bytes(draft)).hexdigest())


def verify_chain(
    entries: Iterable[Entry], *, after: Entry | None = None, tip: str | None = None
) -> Entry | None:
    """The last row, once numbers, links and hashes hold; streams, keeps one row.

    `after` is a row already verified (None: begin at the first); `tip` the hash the last row
    must have, without which missing last rows cannot show. Raises LedgerBroken(entry=the first
    row that does not hold).
    """
    last = after
    for row in entries:
        number = FIRST_ENTRY if last is None else last.entry + 1
        if row.entry != number:
            raise LedgerBroken(
                f"row {number} is missing or out of order: row {row.entry} stands in its place",
                entry=number,
            )
        if row.previous_hash != (GENESIS_HASH if last is None else last.hash):
            raise LedgerBroken(f"row {number} does not continue the row before it", entry=number)
        if row.hash != hashlib.sha256(canonical_bytes(row)).hexdigest():
            raise LedgerBroken(f"row {number} was altered: its hash differs", entry=number)
        last = row
    if tip is not None and (GENESIS_HASH if last is None else last.hash) != tip:
        number = FIRST_ENTRY if last is None else last.entry + 1
        raise LedgerBroken(f"row {number} is missing: the ledger ends too early", entry=number)
    return last


def merges(pairs: Iterable[tuple[int, float]]) -> list[list[int | str]]:
    """(buffered entry, coefficient) in merge order, as a flush or removal row records them."""
    return [[entry, coefficient.hex()] for entry, coefficient in pairs]


def read_merges(entry: Entry) -> list[tuple[int, float]]:
    """(buffered entry, coefficient) in merge order that a flush or removal row records.

    Empty for other kinds. Raises LedgerBroken for details that do not read.
    """
    key = {EntryKind.FLUSH: "merged", EntryKind.REMOVAL: "flushed"}.get(entry.kind)
    try:
        rows = entry.details.get(key, ()) if key else ()
        return [(int(number), float.fromhex(text)) for number, text in rows]
    except (TypeError, ValueError) as error:
        raise LedgerBroken(
            f"row {entry.entry} does not say what it merged", entry=entry.entry
        ) from error


def changes_weights(entry: Entry) -> bool:
    """Whether the row raises the model version by one; every other row leaves it as it is."""
    match entry.kind:
        case EntryKind.INITIAL | EntryKind.DELTA | EntryKind.PATCH | EntryKind.CALIBRATION:
            return True
        case EntryKind.FLUSH:
            return bool(read_merges(entry))
        case EntryKind.REMOVAL:
            return bool(entry.details.get("subtracted")) or bool(read_merges(entry))
        case _:
            return False


def waiting(entries: Iterable[Entry]) -> dict[int, Entry]:
    """The buffered rows that are neither merged nor voided after these rows, oldest first."""
    rows: dict[int, Entry] = {}
    for row in entries:
        if row.kind is EntryKind.BUFFERED:
            rows[row.entry] = row
        for number, _ in read_merges(row):
            rows.pop(number, None)
        if row.kind is EntryKind.VOID:
            for number in row.details.get("entries", ()):
                rows.pop(int(number), None)
    return rows
