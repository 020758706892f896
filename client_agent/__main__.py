"""`python -m client_agent --config FILE`: the daemon; `letheon-agent` has the other commands.

`letheon-agent erase ...` is the hospital's door to an erasure: `client_agent.erase_command`.

Exit codes: 0 after SIGTERM or SIGINT; 78 when a human must change the configuration, the data or
the installation first: the sentence on stderr says what.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from client_agent import bootstrap, daemon, erase_command

__all__ = ["bootstrap", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs an agent until it is told to stop; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["erase"]:
        return erase_command.main(given[1:])
    parser = argparse.ArgumentParser(prog="letheon-agent", description="The agent of one site.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the agent")
    return daemon.serve(parser.parse_args(given).config)


if __name__ == "__main__":
    sys.exit(main())
