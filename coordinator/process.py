"""The life of the coordinator's process: read the configuration, serve, stop on a signal."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from coordinator.bootstrap import build
from coordinator.config import CoordinatorConfig
from letheon.errors import BadConfig, Corrupt, LetheonError
from letheon.servicekit.config import effective, load
from letheon.servicekit.logs import configure

_log = logging.getLogger(__name__)
_BAD_CONFIG = 78  # EX_CONFIG of sysexits.h
_BAD_DATA = 65  # EX_DATAERR
_UNAVAILABLE = 69  # EX_UNAVAILABLE


def run(arguments: Sequence[str]) -> int:
    """Exit code.

    0 after SIGTERM or SIGINT, 78 for bad configuration, 69 without its database, 65 if what is
    stored is damaged or missing and a human must put it back.
    """
    parser = argparse.ArgumentParser(prog="coordinator", description="Serves one federation.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    options = parser.parse_args(arguments)
    try:
        config = load(options.config, CoordinatorConfig)
        _configure_logs(config)
        _serve(config)
    except BadConfig as error:
        sys.stderr.write(f"{error.message}\n")
        return _BAD_CONFIG
    except Corrupt as error:
        _log.error("start_refused", extra={"reason": error.reason, **error.facts})
        sys.stderr.write(f"{error.message}\n")
        return _BAD_DATA
    except LetheonError as error:
        _log.exception("start_failed", extra={"reason": error.reason})
        sys.stderr.write(f"{error.message}\n")
        return _UNAVAILABLE
    return 0


def _configure_logs(config: CoordinatorConfig) -> None:
    try:
        configure("coordinator", config.log_level)
    except ValueError as error:
        raise BadConfig(f"log_level: {error}", key="log_level") from error
    _log.info("config", extra={"config": effective(config)})


def _serve(config: CoordinatorConfig) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    coordinator = build(config)
    coordinator.start()
    stopping.wait()
    coordinator.stop()
