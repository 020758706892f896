"""`letheon ledger`: the record of everything that changed the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from letheon.cli.documents import entry_document, verdict_document
from letheon.cli.exits import ExitCode
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, console, print_document, print_rows, say
from letheon.errors import InternalFault
from letheon.v1 import ledger_pb2

# A verification reads every payload since the newest anchor; it has no natural upper bound.
VERIFY_TIMEOUT_S = 3600.0

app = typer.Typer(no_args_is_help=True, help="The record of everything that changed the model.")


@app.command("verify")
def verify(coordinator: CoordinatorOption = None, output: FormatOption = Format.TABLE) -> None:
    """Check the hash chain, replay from the newest anchor and compare bit for bit.

    Exit code 1 if it does not hold.
    """
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
            f"({verdict.sha256_head[:16]})."
        )
    where = (
        f" First bad entry: {verdict.first_bad_entry}."
        if verdict.HasField("first_bad_entry")
        else ""
    )
    return f"THE LEDGER DOES NOT HOLD: {verdict.reason or 'no reason given'}.{where}"


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
