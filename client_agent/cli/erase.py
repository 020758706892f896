"""`letheon-agent erase`: the hospital's own door to patient-level erasure."""

from __future__ import annotations

import typer

from client_agent import erase_command


def erase(context: typer.Context) -> None:
    """Take a patient's records out of use and have the model forget them (`erase --help`)."""
    raise typer.Exit(erase_command.main(context.args))
