"""The ledger as a file: written from a coordinator, and checked without one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from letheon.cli.documents import Fields
from letheon.cli.remote import Remote
from letheon.errors import BadConfig, BadSignature, LedgerBroken, MalformedRequest
from letheon.federation.ledger import Entry
from letheon.federation.ledger_file import line_of, verify_lines
from letheon.proof.signed_rows import SignedByKeys, read_signatures
from letheon.proof.signed_rows import line_of as signature_line
from letheon.proof.update_signature import UpdateSignature
from letheon.servicekit.signing import PublicKey
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
    signed: SignedByKeys | None = None  # if signatures were checked


def export_file(
    remote: Remote, out: Path, first: int, last: int | None, signatures: Path | None = None
) -> Fields:
    """Writes the rows to a new file, and their signatures to another, whole or not at all.

    Raises BadConfig if one exists or cannot be written, MalformedRequest as `write_entries`.
    """
    for path, option in ((out, "--out"), (signatures, "--signatures")):
        if path is not None and path.exists():
            raise BadConfig(f"{path} exists; choose another {option}", path=path)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            unfinished = Path(folder) / "ledger.jsonl"
            beside = Path(folder) / "signatures.jsonl"
            with unfinished.open("wb") as file, beside.open("wb") as signed:
                written = write_entries(remote, file, first, last, signed)
            unfinished.replace(out)
            if signatures is not None:
                signatures.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(beside, signatures)
    except OSError as error:
        raise BadConfig(f"{out} cannot be written: {error.strerror}", path=out) from error
    return written


def write_entries(
    remote: Remote, file: BinaryIO, first: int, last: int | None, signed: BinaryIO | None = None
) -> Fields:
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
        if signed is not None and entry.signature:
            signature = UpdateSignature(entry.signature_key, entry.signature)
            signed.write(signature_line(entry.entry, signature))
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


def check_file(file: Path, tip: str | None, signed: SignedByKeys | None = None) -> ChainVerdict:
    """Checks numbers, links and hashes from row 0, and signatures if keys were given.

    Raises BadConfig if the file cannot be read.
    """
    check = (lambda _: None) if signed is None else signed.check
    try:
        with file.open("rb") as opened:
            last = verify_lines(_lines(opened), tip=tip, check=check)
    except LedgerBroken as error:
        return ChainVerdict(file, None, int(error.facts["entry"]), error.message)
    except OSError as error:
        raise BadConfig(f"{file} cannot be read: {error.strerror}", path=file) from error
    return ChainVerdict(file, last, signed=signed)


def signed_by(signatures: Path, site_keys: Sequence[str]) -> SignedByKeys:
    """What checks signatures: their file, and keys as `SITE=FILE`.

    Raises MalformedRequest for another form, BadConfig for files that cannot be used.
    """
    keys: dict[str, list[PublicKey]] = {}
    for told in site_keys:
        site, equals, path = told.partition("=")
        if not equals or not site:
            raise MalformedRequest(f"--site-key {told}: SITE=FILE is due", field="site-key")
        try:
            keys.setdefault(site, []).append(PublicKey.from_pem(Path(path).read_bytes()))
        except OSError as error:
            raise BadConfig(f"{path} cannot be read: {error.strerror}", path=path) from error
        except BadSignature as error:
            raise BadConfig(f"{path}: {error.message}", path=path) from error
    try:
        with signatures.open("rb") as opened:
            return SignedByKeys(keys, read_signatures(_lines(opened)))
    except OSError as error:
        raise BadConfig(
            f"{signatures} cannot be read: {error.strerror}", path=signatures
        ) from error


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
        "signatures": None if verdict.signed is None else _counts(verdict.signed),
    }


def _counts(signed: SignedByKeys) -> Fields:
    return {
        "checked": signed.signed,
        "from_before_the_key": signed.unsigned,
        "of_sites_without_a_key_given": signed.not_checked,
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
        f"version {last.version}, hash of the last row {last.hash}. {_signatures(verdict.signed)}"
        f"{NOT_CHECKED}"
    )


def _signatures(signed: SignedByKeys | None) -> str:
    if signed is None:
        return ""
    rest = f", {signed.unsigned} from before their sites signed" if signed.unsigned else ""
    others = (
        f", {signed.not_checked} of sites whose key was not given" if signed.not_checked else ""
    )
    return f"Signatures of sites hold: {signed.signed} rows{rest}{others}. "
