"""`letheon erase`: asking for an erasure, and following it."""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from letheon import names
from letheon.cli.documents import Fields, erasure_document
from letheon.cli.exits import ExitCode
from letheon.cli.following import Narration, follow
from letheon.cli.remote import CoordinatorOption, Remote, connect
from letheon.cli.screen import (
    Format,
    FormatOption,
    print_document,
    print_fields,
    print_rows,
    say,
)
from letheon.cli.sites import full_site_name
from letheon.v1 import erasures_pb2

SECONDS_PER_DAY = 86_400

app = typer.Typer(no_args_is_help=True, help="Make the federation forget, and watch it do so.")

ErasureArgument = Annotated[
    str, typer.Argument(metavar="ERASURE", help="The id of the erasure, as `list` shows it.")
]


class Level(StrEnum):
    """Assurance levels of the wire contract."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"


def full_erasure_name(text: str) -> str:
    """An id or `erasures/ID` as `erasures/ID`. Raises MalformedName."""
    return names.erasure_name(names.erasure_id(text) if "/" in text else text)


@app.command("request")
def request(
    site: Annotated[str, typer.Option(help="The site that withdraws, or that holds the records.")],
    records: Annotated[
        str,
        typer.Option(
            metavar="REFERENCE",
            help="Only these records of the site, by a reference that the site can resolve; "
            "never a patient's identifier.",
        ),
    ] = "",
    basis: Annotated[
        str, typer.Option(help="Code of the legal basis; the default is withdrawn consent.")
    ] = "GDPR-17-1-b",
    method: Annotated[
        str, typer.Option(help="Unlearning method; without it removal, of records patient_swap.")
    ] = "",
    level: Annotated[
        Level, typer.Option(help="L1: influence removed and statistically verified.")
    ] = Level.L1,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Invariance calibration after the method.")
    ] = False,
    deadline_days: Annotated[
        float | None, typer.Option(min=0.001, help="Days from now; the plan's 30 without it.")
    ] = None,
    requester: Annotated[str, typer.Option(help="Who asks, for the record.")] = "letheon-cli",
    request_id: Annotated[
        str | None, typer.Option(help="Repeat a request safely: the same id, the same erasure.")
    ] = None,
    watch_it: Annotated[
        bool, typer.Option("--watch", help="Follow the erasure until it ends.")
    ] = False,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """File an unlearning request. When this returns, the site is fenced.

    A request that is refused fences nothing; one that is admitted with caveats prints them.

    With --watch: exit code 1 if the erasure fails.
    """
    message = erasures_pb2.RequestErasureRequest(
        request_id=request_id or str(uuid.uuid4()),
        site=full_site_name(site),
        legal_basis=basis,
        level=erasures_pb2.AssuranceLevel.Value(level.value),
        method=method or ("patient_swap" if records else "removal"),
        calibrate=calibrate,
        requester=requester,
        records=records,
        deadline=_duration(deadline_days),
    )
    with connect(coordinator) as remote:
        erasure = remote.erasures.RequestErasure(message)
        if watch_it:
            if output is Format.TABLE:
                _say_caveats(erasure_document(erasure))
            _follow(remote, erasure.name, output)
            return
    document = erasure_document(erasure)
    if output is Format.JSON:
        print_document(document)
        return
    _print_erasure(document)
    if erasure.state == erasures_pb2.Erasure.AWAITING_APPROVAL:
        percent = f"{100 * erasure.share:.0f} %"
        say(f"With what was asked for lately it is {percent} of the model: nothing is fenced")
        say("before a second operator has consented:")
        say(f"`letheon erase approve {document['id']}`.")
        return
    say(f"`letheon erase watch {document['id']}` follows it.")


def _duration(days: float | None) -> Duration | None:
    return None if days is None else Duration(seconds=round(days * SECONDS_PER_DAY))


@app.command("watch")
def watch(
    erasure: ErasureArgument,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Follow an erasure until it ends. Exit code 1 if it fails."""
    name = full_erasure_name(erasure)
    with connect(coordinator) as remote:
        _follow(remote, name, output)


def _follow(remote: Remote, name: str, output: Format) -> None:
    narration = Narration()
    question = erasures_pb2.GetErasureRequest(name=name)
    last = erasures_pb2.Erasure()
    if output is Format.TABLE:
        say(f"Erasure {name.rpartition('/')[2]}, seconds since the request:")
    for last in follow(lambda: remote.erasures.GetErasure(question)):
        if output is Format.TABLE:
            for line in narration.lines(last):
                say(line)
    if output is Format.JSON:
        print_document(erasure_document(last))
    if last.state == erasures_pb2.Erasure.FAILED:
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD))


@app.command("list")
def list_erasures(
    open_only: Annotated[bool, typer.Option("--open", help="Only those not yet ended.")] = False,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Erasures, newest first."""
    with connect(coordinator) as remote:
        question = erasures_pb2.ListErasuresRequest(open_only=open_only)
        rows = [erasure_document(each) for each in remote.erasures.ListErasures(question).erasures]
    if output is Format.JSON:
        print_document({"erasures": rows})
        return
    print_rows(
        "Erasures",
        ["erasure", "subject", "method", "level", "state", "requested", "deadline", "attempts"],
        [
            [
                str(row["id"]),
                _subject(row),
                str(row["method"]),
                str(row["level"]),
                str(row["state"]),
                str(row["requested_at"] or ""),
                str(row["deadline"] or ""),
                str(len(row["attempts"]) if isinstance(row["attempts"], list) else 0),
            ]
            for row in rows
        ],
    )


@app.command("show")
def show(
    erasure: ErasureArgument,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """One erasure: its state, its caveats, what was removed, and every run of the gate."""
    question = erasures_pb2.GetErasureRequest(name=full_erasure_name(erasure))
    with connect(coordinator) as remote:
        found = remote.erasures.GetErasure(question)
    if output is Format.JSON:
        print_document(erasure_document(found))
        return
    _print_erasure(erasure_document(found))
    for line in Narration().lines(found):
        say(line)


@app.command("approve")
def approve(
    erasure: ErasureArgument,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Consent, as a second operator, to a request that waits for it. Then its site is fenced."""
    question = erasures_pb2.ApproveErasureRequest(name=full_erasure_name(erasure))
    with connect(coordinator) as remote:
        found = erasure_document(remote.erasures.ApproveErasure(question))
    if output is Format.JSON:
        print_document(found)
    else:
        say(f"Erasure {found['id']} of {found['site']} is {found['state']}: it is fenced.")


@app.command("cancel")
def cancel(
    erasure: ErasureArgument,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Withdraw a request and lift the fence; possible until the removal."""
    question = erasures_pb2.CancelErasureRequest(name=full_erasure_name(erasure))
    with connect(coordinator) as remote:
        found = erasure_document(remote.erasures.CancelErasure(question))
    if output is Format.JSON:
        print_document(found)
    else:
        say(f"Erasure {found['id']} of {found['site']} is {found['state']}.")


def _subject(row: Fields) -> str:
    """A whole site, or records of it by the beginning of their reference."""
    reference = row["records"]
    return f"{row['site']}" if reference is None else f"{row['site']} ({str(reference)[:12]})"


def _print_erasure(row: Fields) -> None:
    shown = ("site", "records", "state", "method", "level", "level_admitted", "legal_basis",
             "requester", "requested_by", "approved_by", "share", "requested_at", "deadline",
             "failure", "certificate")  # fmt: skip
    print_fields(
        f"Erasure {row['id']}",
        {key.replace("_", " "): str(row[key]) for key in shown if row[key] is not None},
    )
    _say_caveats(row)


def _say_caveats(row: Fields) -> None:
    caveats = row["caveats"]
    if isinstance(caveats, list) and caveats:
        say("What this erasure cannot show:")
        for caveat in caveats:
            say(f"- {caveat}.")
