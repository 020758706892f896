"""`python -m calibrator --config FILE`: read the configuration, build, work until told to stop."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from pathlib import Path

from calibrator.bootstrap import run
from calibrator.config import CalibratorConfig
from letheon.errors import LetheonError
from letheon.servicekit import logs, tracing
from letheon.servicekit.allocator import keep_transfer_buffers
from letheon.servicekit.config import effective, load
from letheon.servicekit.stop_signal import end_within, on_stop_signal

_LOG = logging.getLogger(__name__)
_OUTLIVED_GRACE = 1
_BAD_CONFIG = 78  # EX_CONFIG of sysexits.h: a supervisor should not restart us unchanged


def main() -> int:
    """Exit code: 0 after a clean stop, 1 if a job outlived the grace, 78 for a mistake to mend."""
    parser = argparse.ArgumentParser(prog="letheon-calibrator", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    arguments = parser.parse_args()
    keep_transfer_buffers()
    logs.configure("calibrator")
    stop = threading.Event()
    on_stop_signal(stop.set)
    try:
        config = load(arguments.config, CalibratorConfig)
        logs.configure("calibrator", config.log_level)
        _LOG.info("calibrator_configured", extra={"config": effective(config)})
        _end_within(config.stop_grace_seconds, stop)
        stop_tracing = tracing.start("calibrator", config.tracing)
        try:
            return 0 if run(config, stop) else _OUTLIVED_GRACE
        finally:
            stop_tracing()
    except LetheonError as error:
        _LOG.error("calibrator_refused", extra={"why": error.message, "reason": error.reason})
        return _BAD_CONFIG


def _end_within(grace_s: float, stop: threading.Event) -> None:
    """Ends the process so long after `stop`, whatever hangs: every finished step is stored."""

    def wait() -> None:
        stop.wait()
        end_within(grace_s, _OUTLIVED_GRACE)

    threading.Thread(target=wait, name="last-resort", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
