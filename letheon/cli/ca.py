"""`letheon ca`: a certificate authority for a consortium that has none of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.screen import Format, FormatOption, print_document, print_rows, say
from letheon.errors import BadConfig, MalformedRequest
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.identity import Identity, serial_of
from letheon.servicekit.identity_folder import write_identity

app = typer.Typer(no_args_is_help=True, help="Certificates for a consortium without its own CA.")
_SITE_DAYS, _OTHER_DAYS = 30.0, 90.0
_LONGEST_DAYS = 825.0


class Kind(StrEnum):
    """Whom a certificate is for."""

    COORDINATOR = "coordinator"
    SITE = "site"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    CALIBRATOR = "calibrator"
    CONSENT = "consent"
    MONITOR = "monitor"


FolderOption = Annotated[
    Path, typer.Option("--ca", metavar="FOLDER", help="Where the authority is.")
]


@app.command("init")
def init(
    federation: Annotated[str, typer.Argument(help="Name of the federation, in every identity.")],
    folder: FolderOption = Path("letheon-ca"),
    output: FormatOption = Format.TABLE,
) -> None:
    """Make an authority: a key of mode 0600 and a certificate of ten years."""
    Identity(federation, Role.SITE, "any")  # the rule of names, before anything is written
    FileAuthority.init(folder, federation, datetime.now(UTC))
    if output is Format.JSON:
        print_document({"federation": federation, "folder": str(folder)})
        return
    say(f"The authority of {federation} is in {folder}. Keep ca.key there and back it up; give")
    say("ca.pem to everybody. Next: letheon ca issue coordinator --host NAME --out FOLDER")


@app.command("issue")
def issue(
    kind: Annotated[Kind, typer.Argument(help="Whom it is for.")],
    name: Annotated[
        str, typer.Argument(help="Site, person or instance; none of a coordinator.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Gets ca.pem, certificate.pem and key.pem.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="Of a coordinator: name or address it is reached by; repeatable."),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(min=0.001, max=_LONGEST_DAYS, help="Life; a site's 30, else 90."),
    ] = None,
    folder: FolderOption = Path("letheon-ca"),
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a key and sign its certificate. A site better enrols itself: `letheon site invite`."""
    authority = FileAuthority(folder)
    now = datetime.now(UTC)
    life = timedelta(days=days or (_SITE_DAYS if kind is Kind.SITE else _OTHER_DAYS))
    place = out or Path(name or kind.value)
    if (place / "key.pem").exists():
        raise BadConfig(f"{place} holds a key already: choose another --out")
    if kind is Kind.COORDINATOR:
        if name or not host:
            raise MalformedRequest("a coordinator is named by --host NAME, and has no other name")
        made = write_identity(
            place, authority, lambda key: authority.issue_server(host, key, now, life)
        )
    else:
        if host or not name:
            raise MalformedRequest(f"letheon ca issue {kind} NAME; --host is a coordinator's")
        identity = Identity(authority.federation, Role(kind.value), name)
        made = write_identity(
            place, authority, lambda key: authority.issue(identity, key, now, life)
        )
    serial, ends = serial_of(made), made.not_valid_after_utc
    if output is Format.JSON:
        print_document({"serial": serial, "ends_at": ends.isoformat(), "folder": str(place)})
        return
    say(f"{place}: ca.pem, certificate.pem, key.pem; serial {serial}, until {ends:%Y-%m-%d}.")


@app.command("revoke")
def revoke(
    serial: Annotated[str, typer.Argument(help="As `letheon ca list` shows it.")],
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    folder: FolderOption = Path("letheon-ca"),
    output: FormatOption = Format.TABLE,
) -> None:
    """Put a certificate on the deny list, which the coordinator reads at its next call."""
    found = FileAuthority(folder).revoke(serial, reason, datetime.now(UTC))
    if output is Format.JSON:
        print_document({"serial": found.serial, "subject": found.subject, "revoked": True})
        return
    say(f"{found.serial} of {found.subject} is on {folder / 'deny.list'}: the coordinator's")
    say("[tls] deny_list must name that file, or a copy of it.")


@app.command("list")
def list_issued(
    folder: FolderOption = Path("letheon-ca"), output: FormatOption = Format.TABLE
) -> None:
    """Every certificate the authority signed, oldest first."""
    now = datetime.now(UTC)
    rows = [
        {
            "serial": each.serial,
            "subject": each.subject,
            "ends_at": each.ends_at,
            "state": "revoked"
            if each.revoked
            else "valid"
            if datetime.fromisoformat(each.ends_at) > now
            else "expired",
        }
        for each in FileAuthority(folder).issued()
    ]
    if output is Format.JSON:
        print_document({"certificates": [dict(row) for row in rows]})
        return
    columns = ["serial", "subject", "ends_at", "state"]
    print_rows("Certificates", columns, [[row[name] for name in columns] for row in rows])
