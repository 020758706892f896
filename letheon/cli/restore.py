"""`letheon restore`: after a backup was put back, erase again what was erased since."""

from __future__ import annotations

from typing import Annotated

import typer

from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, print_document, print_rows, say
from letheon.v1 import recovery_pb2

_STEPS = {
    "file": "filed again, its site fenced; it is carried out and certified anew",
    "cancel": "cancelled, as it had been",
    "go on": "open again in this database; it is carried out and certified anew",
}


def restore(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the database lacks.")
    ] = False,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Bring a restored database up to the tombstone log, then let the coordinator serve.

    A coordinator whose database is older than its tombstone log serves nothing before this.
    Every erasure that the backup has forgotten is filed again: no restore brings a subject back.
    """
    with connect(coordinator) as remote:
        if dry_run:
            status = remote.recovery.GetRecovery(recovery_pb2.GetRecoveryRequest())
        else:
            status = remote.recovery.ApplyTombstones(recovery_pb2.ApplyTombstonesRequest())
    rows = [
        {
            "erasure": each.erasure,
            "site": each.site,
            "step": each.step,
            "requested_at": each.requested_at.ToDatetime().isoformat() + "Z",
        }
        for each in status.missing
    ]
    if output is Format.JSON:
        print_document(
            {
                "keeps_tombstones": status.keeps_tombstones,
                "held": status.held,
                "applied": not dry_run,
                "erasures": rows,
            }
        )
        return
    if not status.keeps_tombstones:
        say(
            "This coordinator keeps no tombstones ([tombstones] path is not set): whether its "
            "database is an old one cannot be told."
        )
        return
    if not rows:
        say("The database lacks no erasure of the tombstone log; nothing was changed.")
        return
    columns = ["erasure", "site", "requested_at", "what"]
    verb = "Lacking" if dry_run else "Applied"
    print_rows(
        verb,
        columns,
        [[row["erasure"], row["site"], row["requested_at"], _STEPS[row["step"]]] for row in rows],
    )
    if dry_run:
        say("Nothing was changed. `letheon restore` applies them; until then nothing is served.")
    else:
        say("The coordinator serves. `letheon erase list` shows how the erasures come along.")
