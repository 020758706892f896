"""`letheon-agent --config FILE`, or `python -m client_agent --config FILE`.

Exit codes: 0 after SIGTERM or SIGINT; 78 when a human must change the configuration, the data or
the installation first: the sentence on stderr says what.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from pathlib import Path

from client_agent import bootstrap
from client_agent.agent import FOR_A_HUMAN
from client_agent.config import AgentConfig
from client_agent.stop_signal import on_stop_signal
from letheon.servicekit import config as configuration
from letheon.servicekit import logs

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: a supervisor should not restart us unchanged


def main(arguments: list[str] | None = None) -> int:
    """Runs an agent until it is told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="letheon-agent", description="The agent of one site.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the agent")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config, AgentConfig)
        logs.configure("letheon-agent", config.log_level)
        running = bootstrap.build(config)
    except FOR_A_HUMAN as error:
        return _refuse(error)
    on_stop_signal(lambda: _stop(running, config.stop_grace_seconds))
    try:
        log.info("agent_started", extra={"site": config.site, "coordinator": config.coordinator})
        running.agent.run()
    except FOR_A_HUMAN as error:
        return _refuse(error)
    finally:
        running.close()
    log.info("agent_stopped", extra={"site": config.site})
    return EXIT_OK


def _stop(running: bootstrap.Running, grace_s: float) -> None:
    # Everything that matters is durable already; an orderly end is a courtesy with a limit.
    last_resort = threading.Timer(grace_s, os._exit, (EXIT_OK,))
    last_resort.daemon = True
    last_resort.start()
    running.stop()


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"letheon-agent: {error}\n")
    return EXIT_CONFIG


if __name__ == "__main__":
    sys.exit(main())
