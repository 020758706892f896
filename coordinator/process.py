"""The life of the coordinator's process: read the configuration, serve, stop on a signal."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from coordinator.bootstrap import Coordinator, build
from coordinator.config import CoordinatorConfig
from coordinator.start_wiring import a_health_port, migrate
from letheon.errors import (
    BadConfig,
    Corrupt,
    DatabaseBusy,
    LeadershipHeld,
    LeadershipLost,
    LetheonError,
    StorageUnavailable,
)
from letheon.servicekit import tracing
from letheon.servicekit.allocator import keep_transfer_buffers
from letheon.servicekit.config import effective, load
from letheon.servicekit.logs import configure
from letheon.servicekit.stop_signal import end_within, on_stop_signal

_log = logging.getLogger(__name__)
# Of sysexits.h. A supervisor starts again after 69 and 75; after 65 and 78 a human must act first.
_BAD_CONFIG = 78  # EX_CONFIG
_BAD_DATA = 65  # EX_DATAERR
_UNAVAILABLE = 69  # EX_UNAVAILABLE
_LEADERSHIP_LOST = 75  # EX_TEMPFAIL
_TIDY_S = 5.0  # after running calls had their time
_VECTOR_BYTES, _ARENAS = 4 << 20, 4


def run(arguments: Sequence[str]) -> int:
    """Exit code: 0 after SIGTERM or SIGINT; otherwise a sentence on standard error and

    78 for a configuration that cannot be used, 65 if what is stored is damaged or missing and a
    human must put it back, 69 without its store of files, 75 when another coordinator has taken
    over.
    """
    parser = argparse.ArgumentParser(prog="coordinator", description="Serves one federation.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "migrate"),
        default="serve",
        help="serve (default), or migrate: bring the database to this release and end",
    )
    parser.add_argument("--config", type=Path, help="TOML file; none: the environment alone")
    options = parser.parse_args(arguments)
    keep_transfer_buffers(whole_from_bytes=_VECTOR_BYTES, arenas=_ARENAS)
    try:
        config = load(options.config, CoordinatorConfig)
        _configure_logs(config)
        if options.command == "migrate":
            migrate(config, ending=_ended_by_signal())
        else:
            _serve(config)
    except BadConfig as error:
        return _ended(error, _BAD_CONFIG)
    except Corrupt as error:
        return _ended(error, _BAD_DATA)
    except LeadershipLost as error:
        return _ended(error, _LEADERSHIP_LOST)
    except LetheonError as error:
        return _ended(error, _UNAVAILABLE)
    return 0


def _ended(error: LetheonError, code: int) -> int:
    _log.error("ended", extra={"reason": error.reason, "exit_code": code, **error.facts})
    sys.stderr.write(f"{error.message}\n")
    return code


def _configure_logs(config: CoordinatorConfig) -> None:
    try:
        configure("coordinator", config.log_level)
    except ValueError as error:
        raise BadConfig(f"log_level: {error}", key="log_level") from error
    _log.info("config", extra={"config": effective(config)})


def _ended_by_signal() -> threading.Event:
    ending = threading.Event()
    on_stop_signal(ending.set)
    return ending


def _serve(config: CoordinatorConfig) -> None:
    ending = _ended_by_signal()
    stop_tracing = tracing.start("coordinator", config.tracing)
    health = a_health_port(config.health_listen)
    health.start()
    try:
        coordinator = build(config, ending=ending, health=health)
    except (LeadershipHeld, StorageUnavailable, DatabaseBusy):
        if not ending.is_set():
            raise
        _log.info("stopped_before_leading")
        return
    _until_told(coordinator, config, ending)
    health.stop()
    stop_tracing()
    coordinator.leadership.check()


def _until_told(
    coordinator: Coordinator, config: CoordinatorConfig, ending: threading.Event
) -> None:
    coordinator.start()
    ending.wait()
    code = _LEADERSHIP_LOST if coordinator.leadership.is_lost else 0
    end_within(config.stop_seconds + _TIDY_S, code)
    coordinator.stop()
