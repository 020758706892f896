"""`letheon ledger`: the record of everything that changed the model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from letheon.cli.documents import entry_document, verdict_document
from letheon.cli.exits import ExitCode
from letheon.cli.ledger_export import (
    chain_document,
    chain_sentence,
    check_file,
    export_file,
    signed_by,
    write_entries,
)
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, console, print_document, print_rows, say
from letheon.errors import InternalFault, MalformedRequest
from letheon.v1 import ledger_pb2

# A verification reads every payload since the newest anchor; it has no natural upper bound.
VERIFY_TIMEOUT_S = 3600.0

app = typer.Typer(no_args_is_help=True, help="The record of everything that changed the model.")


@app.command("verify")
def verify(
    file: Annotated[
        Path | None, typer.Option(help="Check an exported file instead, without a coordinator.")
    ] = None,
    tip: Annotated[
        str | None, typer.Option(help="With --file: the hash that its last row must have.")
    ] = None,
    signatures: Annotated[
        Path | None, typer.Option(help="With --file: the signatures that were exported with it.")
    ] = None,
    site_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE=FILE",
            help="With --signatures: the site's public key, PEM, got from the site; repeat it.",
        ),
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check the hash chain, replay from the newest anchor and compare bit for bit.

    With --file numbers, links and hashes are checked from row 0, and nothing is replayed; with
    --signatures and --site-key also that the sites signed what the rows say. Exit code 1 if it
    does not hold.
    """
    if (signatures is None) != (not site_key):
        raise MalformedRequest("--signatures and --site-key go together", field="signatures")
    if file is not None:
        _verify_file(file, tip, signatures, site_key or [], output)
        return
    if tip is not None:
        raise MalformedRequest("--tip goes with --file: the coordinator knows its own", field="tip")
    if signatures is not None:
        raise MalformedRequest(
            "--signatures goes with --file: the coordinator checks its own", field="signatures"
        )
    with connect(coordinator) as remote:
        parts = remote.ledger.VerifyLedger(
            ledger_pb2.VerifyLedgerRequest(), timeout=VERIFY_TIMEOUT_S
        )
        verdict = read_verdict(parts)
    if output is Format.JSON:
        print_document(verdict_document(verdict))
    else:
        say(verdict_sentence(verdict))
    if not verdict.holds:
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD))


def _verify_file(
    file: Path, tip: str | None, signatures: Path | None, site_keys: list[str], output: Format
) -> None:
    signed = None if signatures is None else signed_by(signatures, site_keys)
    verdict = check_file(file, tip, signed)
    if output is Format.JSON:
        print_document(chain_document(verdict))
    else:
        say(chain_sentence(verdict))
    if verdict.last is None:
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD))


@app.command("export")
def export(
    out: Annotated[
        Path | None, typer.Option(help="File to write; `-` or none is standard output.")
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="First entry.")] = 0,
    last: Annotated[
        int | None, typer.Option(min=0, help="Last entry; the newest without it.")
    ] = None,
    signatures: Annotated[
        Path | None, typer.Option(help="With --out: file for the signatures of the sites.")
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Write the ledger as JSON lines, each row as it was hashed.

    Without --out the lines are all that is printed, whatever the format.
    """
    to_file = out is not None and out != Path("-")
    if signatures is not None and not to_file:
        raise MalformedRequest("--signatures goes with --out FILE", field="signatures")
    with connect(coordinator) as remote:
        if not to_file:
            write_entries(remote, sys.stdout.buffer, first, last)
            return
        written = export_file(remote, Path(out or ""), first, last, signatures)
    if output is Format.JSON:
        print_document({"path": str(out), **written})
    else:
        say(
            f"Wrote {written['entries']} entries to {out}; the hash of the last one is "
            f"{written['hash']}. `letheon ledger verify --file {out}` checks them."
        )


def read_verdict(
    parts: Iterable[ledger_pb2.VerifyLedgerResponse],
) -> ledger_pb2.LedgerVerdict:
    """Shows progress on a terminal and returns the verdict.

    Raises InternalFault if the stream ends without one.
    """
    stderr = console(stderr=True)
    columns = (TextColumn("replaying the ledger"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("replay", total=None)
        for part in parts:
            if part.WhichOneof("part") == "verdict":
                return part.verdict
            progress.update(bar, completed=part.progress.done, total=part.progress.total)
    raise InternalFault("the coordinator ended the verification without a verdict")


def verdict_sentence(verdict: ledger_pb2.LedgerVerdict) -> str:
    """The verdict for a person."""
    if verdict.holds:
        return (
            f"The ledger holds: {verdict.entries} entries chained, replay from entry "
            f"{verdict.replayed_from} equals head version {verdict.version} bit for bit "
            f"({verdict.sha256_head[:16]}). {_signatures(verdict)}"
        )
    where = (
        f" First bad entry: {verdict.first_bad_entry}."
        if verdict.HasField("first_bad_entry")
        else ""
    )
    return f"THE LEDGER DOES NOT HOLD: {verdict.reason or 'no reason given'}.{where}"


def _signatures(verdict: ledger_pb2.LedgerVerdict) -> str:
    unsigned = verdict.unsigned_deltas
    rest = f", {unsigned} of sites that had no key then" if unsigned else ""
    return f"Signatures of sites checked: {verdict.signed_deltas} deltas{rest}."


@app.command("list")
def list_entries(
    first: Annotated[int, typer.Option(min=0, help="First entry to show.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Entries in order."""
    with connect(coordinator) as remote:
        request = ledger_pb2.ListEntriesRequest(first=first, page_size=limit)
        entries = remote.ledger.ListEntries(request).entries
    rows = [entry_document(entry) for entry in entries]
    if output is Format.JSON:
        print_document({"entries": rows})
        return
    print_rows(
        "Ledger",
        ["entry", "kind", "version", "epoch", "site", "at", "hash"],
        [
            [
                str(row["entry"]),
                str(row["kind"]),
                str(row["version"]),
                str(row["epoch"]),
                str(row["site"] or ""),
                str(row["at"] or ""),
                str(row["hash"])[:16],
            ]
            for row in rows
        ],
    )
