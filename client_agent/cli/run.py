"""letheon-agent run"""

from __future__ import annotations

import typer

from client_agent.cli.options import DEFAULT_CONFIG, ConfigOption


def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the daemon until SIGTERM or SIGINT. Logs are JSON lines on standard error.

    Under systemd (Type=notify) it says when it is up and feeds the watchdog.
    """
    from client_agent import daemon

    raise typer.Exit(daemon.serve(config))
