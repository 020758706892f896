"""`letheon audit`: who did what to which object, with which outcome."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from letheon.cli.documents import Fields, instant_text
from letheon.cli.remote import CoordinatorOption, Remote, connect
from letheon.cli.screen import Format, FormatOption, print_document, print_rows, say
from letheon.errors import BadConfig, ProofInvalid
from letheon.proof.audit_chain import AuditRow, head_content, line_of, parse, verify_lines
from letheon.proof.audit_chain import verify_rows as check_rows
from letheon.proof.merkle import leaf_hash
from letheon.v1 import audit_pb2, transparency_pb2

_PAGE = 500
_LONGEST_LINE = 1024 * 1024

app = typer.Typer(no_args_is_help=True, help="Who did what to which object, with which outcome.")


@app.command("show")
def show(
    first: Annotated[int, typer.Option(min=0, help="First row.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    refused: Annotated[bool, typer.Option("--refused", help="Refused calls only.")] = False,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Rows in order."""
    with connect(coordinator) as remote:
        request = audit_pb2.ListAuditRowsRequest(first=first, page_size=limit)
        found = remote.audit.ListAuditRows(request).rows
    rows = [_document(row) for row in found if not refused or row.outcome == "refused"]
    if output is Format.JSON:
        print_document({"rows": rows})
        return
    print_rows(
        "Audit log",
        ["row", "at", "role", "caller", "action", "object", "outcome", "details"],
        [
            [
                str(row["number"]),
                str(row["at"]),
                str(row["role"]),
                str(row["caller"]),
                str(row["action"]),
                str(row["object"]),
                str(row["outcome"]),
                json.dumps(row["details"], sort_keys=True),
            ]
            for row in rows
        ],
    )


def _document(row: audit_pb2.AuditRow) -> Fields:
    return {
        "number": row.number,
        "at": instant_text(row.at),
        "role": row.role,
        "caller": row.caller,
        "serial": row.serial or None,
        "action": row.action,
        "object": row.object,
        "outcome": row.outcome,
        "details": json.loads(row.details_json or "{}"),
        "hash": row.hash,
    }


@app.command("export")
def export(
    out: Annotated[Path, typer.Option(help="File to write.")],
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Write every row as JSON lines, each as it was hashed."""
    if out.exists():
        raise BadConfig(f"{out} exists; choose another --out", path=out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            unfinished = Path(folder) / "audit.jsonl"
            with connect(coordinator) as remote, unfinished.open("wb") as file:
                count = _write(remote, file)
            unfinished.replace(out)
    except OSError as error:
        raise BadConfig(f"{out} cannot be written: {error.strerror}", path=out) from error
    if output is Format.JSON:
        print_document({"path": str(out), "rows": count})
    else:
        say(f"Wrote {count} rows to {out}. `letheon audit verify --file {out}` checks them.")


@app.command("verify")
def verify(
    file: Annotated[
        Path | None, typer.Option(help="Check an exported file instead, without a coordinator.")
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check numbers, links and hashes from row 0, and the heads in the transparency log.

    The rows are read and hashed here; the coordinator's word is not taken for it. Exit code 1 if
    something does not hold.
    """
    if file is not None:
        last, heads = _verify_file(file), 0
    else:
        with connect(coordinator) as remote:
            last, heads = _verify_remote(remote)
    if output is Format.JSON:
        told: Fields = {"holds": True, "rows": last.number + 1, "hash": last.hash}
        told = {**told, "heads_checked": heads}
        print_document(told)
        return
    fixed = (
        "Heads in the transparency log were not looked at."
        if file is not None
        else f"{heads} heads in the transparency log agree with it."
    )
    say(f"The audit log holds: {last.number + 1} rows, hash of the last {last.hash}. {fixed}")


def _verify_file(file: Path) -> AuditRow:
    try:
        with file.open("rb") as opened:
            return verify_lines(iter(lambda: opened.readline(_LONGEST_LINE), b""))
    except OSError as error:
        raise BadConfig(f"{file} cannot be read: {error.strerror}", path=file) from error


def _verify_remote(remote: Remote) -> tuple[AuditRow, int]:
    heads = _heads(remote)
    last: AuditRow | None = None
    checked = 0
    for message in _rows(remote):
        row = parse(message.canonical_json.encode(), message.hash, message.number)
        last = check_rows([row], after=last)
        found = heads.pop(row.number + 1, None)
        if found is None:
            continue
        origin, leaf = found
        if leaf_hash(head_content(origin, row)) != leaf:
            raise ProofInvalid(
                f"row {row.number} of the audit log is not the one that the transparency log "
                "fixed: the audit log was written anew",
                rule="audit",
                row=row.number,
            )
        checked += 1
    if heads:
        raise ProofInvalid(
            f"the transparency log fixed {max(heads)} rows of the audit log, which has fewer: "
            "rows were taken away",
            rule="audit",
        )
    if last is None:
        raise ProofInvalid("the audit log has no row", rule="audit", row=0)
    return last, checked


def _heads(remote: Remote) -> dict[int, tuple[str, bytes]]:
    """By number of rows: origin and leaf hash of each head that the log holds."""
    note = remote.transparency.GetCheckpoint(transparency_pb2.GetCheckpointRequest()).note
    size = int(note.split("\n")[1])
    found: dict[int, tuple[str, bytes]] = {}
    for index in range(size):
        request = transparency_pb2.GetInclusionRequest(index=index, size=size)
        leaf = remote.transparency.GetInclusion(request)
        if leaf.kind == "audit_head":
            content = json.loads(leaf.content)
            found[int(content["rows"])] = (str(content["origin"]), leaf.leaf_hash)
    return found


def _rows(remote: Remote) -> Iterator[audit_pb2.AuditRow]:
    first = 0
    while True:
        request = audit_pb2.ListAuditRowsRequest(first=first, page_size=_PAGE)
        page = remote.audit.ListAuditRows(request).rows
        if not page:
            return
        yield from page
        first = page[-1].number + 1


def _write(remote: Remote, file: BinaryIO) -> int:
    count = 0
    for row in _rows(remote):
        # Written as it is: a log that does not hold must be exportable, to show that.
        file.write(line_of(row.canonical_json.encode(), row.hash))
        count += 1
    return count
