"""The `letheon` command.

Exit codes are those of `letheon.cli.exits`. Every error is one sentence, what to do next, and
its code: no stack is shown, because whoever reads it cannot act on one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from letheon import __version__
from letheon.cli import (
    audit,
    ca,
    certificate,
    data,
    erase,
    federation,
    health,
    keys,
    ledger,
    log,
    models,
    rehearse,
    restore,
    simulate,
    site,
    sites,
    status,
    up,
    updates,
)
from letheon.cli.exits import advice, epilog, exit_code
from letheon.cli.screen import Format, chosen_format, console, print_document
from letheon.errors import LetheonError


class _ErrorsAsSentences(TyperGroup):
    """Turns every LetheonError into a sentence and an exit code."""

    # Typer hands in its Context; the class it declares here is private to it.
    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except LetheonError as error:
            _report(ctx, error)
            raise typer.Exit(int(exit_code(error))) from error


def _report(context: typer.Context, error: LetheonError) -> None:
    if chosen_format(context) is Format.JSON:
        print_document(
            {
                "error": {
                    "reason": error.reason,
                    "message": error.message,
                    "next": advice(error),
                    "facts": error.facts,
                }
            }
        )
        return
    stderr = console(stderr=True)
    stderr.print(f"letheon: {error.message.rstrip('.')}.", markup=False)
    if advice(error):
        stderr.print(advice(error), markup=False)


app = typer.Typer(
    cls=_ErrorsAsSentences,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    epilog=epilog(),
    help="Federated learning for hospitals that can forget.",
)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("sites")(sites.sites)
app.command("health")(health.health)
app.command("rehearse")(rehearse.rehearse)
app.command("restore")(restore.restore)
app.command("simulate")(simulate.simulate)
app.add_typer(ca.app, name="ca")
app.add_typer(data.app, name="data")
app.add_typer(federation.app, name="federation")
app.add_typer(models.app, name="models")
app.add_typer(erase.app, name="erase")
app.add_typer(site.app, name="site")
app.add_typer(certificate.app, name="certificate")
app.add_typer(ledger.app, name="ledger")
app.add_typer(updates.app, name="updates")
app.add_typer(audit.app, name="audit")
app.add_typer(log.app, name="log")
app.add_typer(keys.app, name="keys")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def letheon(
    coordinator: Annotated[
        str | None,
        typer.Option(
            envvar="LETHEON_COORDINATOR",
            metavar="HOST:PORT",
            help="Where the coordinator listens, for every command.",
        ),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            envvar="LETHEON_IDENTITY",
            metavar="FOLDER",
            file_okay=False,
            help="Who you are: ca.pem, certificate.pem and key.pem, as `letheon ca issue` writes"
            " them. Without it the connection is plain.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """Federated learning for hospitals that can forget."""


def run() -> None:
    """Entry point of the console script."""
    app()
