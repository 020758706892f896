"""`letheon site`: taking a hospital in."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from letheon import names
from letheon.cli.documents import instant_text
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, print_document, say
from letheon.cli.sites import full_site_name
from letheon.v1 import enrolment_pb2

app = typer.Typer(no_args_is_help=True, help="Take a hospital in.")
_SECONDS_PER_HOUR = 3600


@app.callback()
def site() -> None:
    """Take a hospital in."""


@app.command("invite")
def invite(
    site: Annotated[str, typer.Argument(help="Its name in the federation, from now on.")],
    hours: Annotated[
        float | None, typer.Option(min=0.01, help="Until the token expires; else as configured.")
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a one-time token with which the site's agent gets its certificate.

    Whoever has the token can become the site: hand it over by a way you trust. It is shown once.
    """
    request = enrolment_pb2.InviteSiteRequest(site=full_site_name(site))
    if hours is not None:
        request.validity.CopyFrom(Duration(seconds=round(hours * _SECONDS_PER_HOUR)))
    with connect(coordinator) as remote:
        made = remote.enrolment.InviteSite(request)
    if output is Format.JSON:
        print_document(
            {
                "site": made.site,
                "token": made.token,
                "expires_at": instant_text(made.expires_at),
                "enrolment_address": made.enrolment_address or None,
            }
        )
        return
    where = made.enrolment_address or "HOST:PORT"
    say(f"For {made.site}, once, until {instant_text(made.expires_at)}; with ca.pem, at the site:")
    say("")
    say(f"letheon-agent enroll --site {names.site_id(made.site)} --token {made.token} \\")
    say(f"    --enrolment {where} --ca ca.pem --coordinator HOST:PORT --source ...")
