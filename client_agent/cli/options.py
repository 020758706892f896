"""Options that more than one command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("/etc/letheon/agent.toml")

ConfigOption = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The agent's configuration, TOML.")
]
