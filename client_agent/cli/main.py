"""The `letheon-agent` command.

Every error is one sentence, what to do next, and its exit code (client_agent.cli.exits).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from client_agent.cli import (
    check_config,
    doctor,
    enroll,
    erase,
    privacy,
    rotate_key,
    run,
    version,
)
from client_agent.cli.exits import ExitCode, advice, epilog, exit_code
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
        told = {"reason": error.reason, "message": error.message, "next": advice(error)}
        print_document({"error": {**told, "facts": error.facts}})
        return
    stderr = console(stderr=True)
    stderr.print(f"letheon-agent: {error.message.rstrip('.')}.", markup=False)
    if advice(error):
        stderr.print(advice(error), markup=False)


app = typer.Typer(
    cls=_ErrorsAsSentences,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    epilog=epilog(),
    help="The agent of one hospital: it connects out, never listens, and keeps the data home.",
)
app.command("run")(run.run)
app.command("enroll")(enroll.enroll)
# Its options are its own parser's: what it says of them is in one place.
app.command(
    "erase",
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)(erase.erase)
app.command("doctor")(doctor.doctor)
app.command("check-config")(check_config.check_config)
app.command("privacy")(privacy.privacy)
app.command("rotate-key")(rotate_key.rotate_key)
app.command("version")(version.version)


@app.callback(invoke_without_command=True)
def letheon_agent(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Without a command: run the daemon with this file."
        ),
    ] = None,
) -> None:
    """The agent of one hospital: it connects out, never listens, and keeps the data home."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(int(ExitCode.USAGE))
    run.run(config)


def start() -> None:
    """Entry point of the console script."""
    app()
