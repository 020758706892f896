"""The ledger as a file: written from a coordinator, and checked without one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from letheon.cli.documents import Fields
from letheon.cli.remote import Remote
from letheon.errors import BadConfig, LedgerBroken, MalformedRequest
from letheon.federation.ledger import Entry
from letheon.federation.ledger_file import line_of, verify_lines
from letheon.v1 import federation_pb2, ledger_pb2

_PAGE = 500
# No row of a real ledger is longer; a file that is none of ours may be one endless line.
_LONGEST_LINE = 64 * 1024 * 1024
NOT_CHECKED = (
    "Not checked: the replay, and that the ledger ends where the file does (compare the hash "
    "of the last row with `letheon status`, a receipt or a certificate, or give --tip)."
)


@dataclass(frozen=True)
class ChainVerdict:
    """What the check of a file found: its last row, or what does not hold."""

    file: Path
    last: Entry | None
    first_bad_entry: int | None = None
    reason: str = ""


def export_file(remote: Remote, out: Path, first: int, last: int | None) -> Fields:
    """Writes the rows to a new file, whole or not at all.

    Raises BadConfig if it exists or cannot be written, MalformedRequest as `write_entries`.
    """
    if out.exists():
        raise BadConfig(f"{out} exists; choose another --out", path=out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            unfinished = Path(folder) / "ledger.jsonl"
            with unfinished.open("wb") as file:
                written = write_entries(remote, file, first, last)
            unfinished.replace(out)
    except OSError as error:
        raise BadConfig(f"{out} cannot be written: {error.strerror}", path=out) from error
    return written


def write_entries(remote: Remote, file: BinaryIO, first: int, last: int | None) -> Fields:
    """Writes the rows `first` to `last` (None: the newest now), a page at a time.

    Raises MalformedRequest if the ledger ends before one of them.
    """
    newest = remote.federation.GetFederation(federation_pb2.GetFederationRequest()).entries - 1
    last = newest if last is None else last
    if not first <= last <= newest:
        raise MalformedRequest(
            f"entries {first} to {last} cannot be had: the ledger has entries 0 to {newest}",
            field="last",
        )
    count, row_hash, number = 0, "", -1
    for entry in _entries(remote, first, last):
        # Written as it is: a ledger that does not hold must be exportable, to show that.
        file.write(line_of(entry.canonical_json.encode(), entry.hash))
        count, row_hash, number = count + 1, entry.hash, entry.entry
    return {"entries": count, "first": first, "last": number, "hash": row_hash}


def _entries(remote: Remote, first: int, last: int) -> Iterator[ledger_pb2.Entry]:
    while first <= last:
        request = ledger_pb2.ListEntriesRequest(first=first, page_size=_PAGE)
        page = remote.ledger.ListEntries(request).entries
        if not page:
            return
        for entry in page:
            if entry.entry > last:
                return
            yield entry
        first = page[-1].entry + 1


def check_file(file: Path, tip: str | None) -> ChainVerdict:
    """Checks numbers, links and hashes from row 0. Raises BadConfig if the file cannot be read."""
    try:
        with file.open("rb") as opened:
            last = verify_lines(_lines(opened), tip=tip)
    except LedgerBroken as error:
        return ChainVerdict(file, None, int(error.facts["entry"]), error.message)
    except OSError as error:
        raise BadConfig(f"{file} cannot be read: {error.strerror}", path=file) from error
    return ChainVerdict(file, last)


def _lines(opened: BinaryIO) -> Iterator[bytes]:
    while line := opened.readline(_LONGEST_LINE):
        yield line


def chain_document(verdict: ChainVerdict) -> Fields:
    """The outcome of checking a file."""
    last = verdict.last
    return {
        "file": str(verdict.file),
        "holds": last is not None,
        "entries": None if last is None else last.entry + 1,
        "version": None if last is None else last.version,
        "hash": None if last is None else last.hash,
        "first_bad_entry": verdict.first_bad_entry,
        "reason": verdict.reason or None,
        "not_checked": NOT_CHECKED,
    }


def chain_sentence(verdict: ChainVerdict) -> str:
    """The outcome for a person."""
    if verdict.last is None:
        return (
            f"THE CHAIN DOES NOT HOLD: {verdict.reason}. First bad entry: "
            f"{verdict.first_bad_entry}."
        )
    last = verdict.last
    return (
        f"The chain of {verdict.file} holds: {last.entry + 1} entries from 0 to {last.entry}, head "
        f"version {last.version}, hash of the last row {last.hash}. {NOT_CHECKED}"
    )
