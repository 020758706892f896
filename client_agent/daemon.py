"""The agent as a process: from its configuration file to its exit code."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from client_agent import bootstrap
from client_agent.agent import FOR_A_HUMAN
from client_agent.config import AgentConfig
from letheon.servicekit import config as configuration
from letheon.servicekit import logs, tracing
from letheon.servicekit.allocator import keep_transfer_buffers
from letheon.servicekit.stop_signal import end_within, on_stop_signal

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: a supervisor should not restart us unchanged


def serve(path: Path) -> int:
    """Runs an agent until it is told to stop; returns the exit code."""
    keep_transfer_buffers()
    try:
        config = configuration.load(path, AgentConfig)
        logs.configure("letheon-agent", config.log_level)
        stop_tracing = tracing.start("agent", config.tracing)
        running = bootstrap.build(config)
    except FOR_A_HUMAN as error:
        return _refuse(error)
    on_stop_signal(lambda: _stop(running, config.stop_grace_seconds))
    try:
        log.info("agent_started", extra={"site": config.site, "coordinator": config.coordinator})
        # Up is not the same as enrolled: an agent that boots before the network is there waits.
        running.notifier.ready()
        running.agent.run()
    except FOR_A_HUMAN as error:
        return _refuse(error)
    finally:
        running.close()
        stop_tracing()
    log.info("agent_stopped", extra={"site": config.site})
    return EXIT_OK


def _stop(running: bootstrap.Running, grace_s: float) -> None:
    end_within(grace_s, EXIT_OK)
    running.stop()


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"letheon-agent: {error}\n")
    return EXIT_CONFIG
