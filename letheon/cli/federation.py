"""`letheon federation init`: the plan and the initial weights, made on the operator's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.screen import Format, FormatOption, print_document, say
from letheon.errors import BadConfig

PLAN_FILE = "plan.json"
WEIGHTS_FILE = "initial.safetensors"

app = typer.Typer(no_args_is_help=True, help="What the federation trains.")


@app.callback()
def federation() -> None:
    """What the federation trains."""


@app.command("init")
def init(
    plan: Annotated[Path, typer.Argument(help="The draft, TOML: everything but the layout.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    seed: Annotated[int, typer.Option(help="Of the initial weights.")] = 0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Build the network once and write plan.json and initial.safetensors.

    The coordinator imports both as version 0 and needs no network library itself.
    """
    if (out / PLAN_FILE).exists() or (out / WEIGHTS_FILE).exists():
        raise BadConfig(
            f"{out} holds a federation already; choose another --out (a plan is never replaced)",
            path=out,
        )
    # Imported here because it brings torch, which no other command needs.
    from letheon.cli.initial_model import write_federation

    written = write_federation(plan, out, seed=seed)
    if output is Format.JSON:
        print_document(
            {
                "plan": str(out / PLAN_FILE),
                "weights": str(out / WEIGHTS_FILE),
                "digest": written.digest,
                "parameters": written.parameters,
                "seed": seed,
            }
        )
    else:
        say(
            f"Wrote {out / PLAN_FILE} (digest {written.digest[:16]}) and {out / WEIGHTS_FILE} "
            f"({written.parameters} parameters, seed {seed})."
        )
