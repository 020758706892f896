"""`letheon updates`: what robust screening set aside, and what to do with it."""

from __future__ import annotations

from typing import Annotated

import typer

from letheon.cli.documents import Fields
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, print_document, print_fields, print_rows
from letheon.v1 import updates_pb2

app = typer.Typer(no_args_is_help=True, help="Updates that screening set aside.")

UpdateArgument = Annotated[str, typer.Argument(help="The update id, as `quarantined` shows it.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why: it is kept beside the update, 500 characters at most.")
]


@app.command()
def quarantined(
    everything: Annotated[
        bool, typer.Option("--all", help="Those that were decided on too.")
    ] = False,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """The updates that wait for a decision, oldest first."""
    with connect(coordinator) as remote:
        request = updates_pb2.ListQuarantinedRequest(with_decided=everything)
        found = remote.updates.ListQuarantined(request).updates
    rows = [update_document(each) for each in found]
    if output is Format.JSON:
        print_document({"updates": rows})
        return
    columns = ["update_id", "site", "state", "arrived_at", "finding"]
    print_rows(
        "Quarantined updates",
        [column.replace("_", " ") for column in columns],
        [[str(row[column]) for column in columns] for row in rows],
    )


@app.command()
def release(
    update: UpdateArgument,
    reason: ReasonOption,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Merges an update after all, with the coefficient that it gets now."""
    with connect(coordinator) as remote:
        request = updates_pb2.ReleaseUpdateRequest(update_id=update, reason=reason)
        _show(update_document(remote.updates.ReleaseUpdate(request).update), output)


@app.command()
def reject(
    update: UpdateArgument,
    reason: ReasonOption,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Destroys the payload of an update; its row stays."""
    with connect(coordinator) as remote:
        request = updates_pb2.RejectUpdateRequest(update_id=update, reason=reason)
        _show(update_document(remote.updates.RejectUpdate(request)), output)


def update_document(update: updates_pb2.QuarantinedUpdate) -> Fields:
    """A quarantined update as a JSON document."""
    decided = update.HasField("decided_at")
    return {
        "update_id": update.update_id,
        "site": update.site,
        "state": updates_pb2.QuarantinedUpdate.State.Name(update.state).lower(),
        "finding": update.finding,
        "norm": update.norm,
        "norm_ratio": update.norm_ratio if update.HasField("norm_ratio") else None,
        "cosine": update.cosine if update.HasField("cosine") else None,
        "base_version": update.base_version,
        "epoch": update.epoch,
        "record_count": update.record_count,
        "size_bytes": update.size_bytes,
        "arrived_at": update.arrived_at.ToJsonString(),
        "decided_at": update.decided_at.ToJsonString() if decided else None,
        "decision": update.decision or None,
        "entry": update.entry or None,
    }


def _show(document: Fields, output: Format) -> None:
    if output is Format.JSON:
        print_document(document)
    else:
        fields = {k: "" if v is None else str(v) for k, v in document.items()}
        print_fields(str(document["update_id"]), fields)
