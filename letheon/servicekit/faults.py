"""Named points at which a test may hurt a process; in production they are nothing.

A service calls `reach("accept.published")` where a crash would be interesting. Unless the
environment variable LETHEON_FAULTS named a directory when the process started, `reach` is a
function that does nothing and looks at nothing. Otherwise a file `{process}.{point}` in that
directory arms the point for the process of that name (LETHEON_FAULTS_AS); the process takes the
file away, so that a point fires once, and does what the file says:

    kill           SIGKILL, as kill -9 or a power cut of this process
    stop           SIGSTOP, as a process that hangs; somebody else continues it
    full           OSError(ENOSPC), as a disk without room
    wait SECONDS   goes on that much later

`{process}.clock` holds seconds by which the process's wall clock is wrong; it is read again at
every look at the clock and is never taken away.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

DIRECTORY_VARIABLE: Final = "LETHEON_FAULTS"
PROCESS_VARIABLE: Final = "LETHEON_FAULTS_AS"
_STOP_LANDS_S: Final = 0.3


def _nothing(point: str) -> None:
    """What production calls."""


class ArmedFaults:
    """The faults of one process, armed by files in a directory."""

    def __init__(self, directory: Path, process: str) -> None:
        self._directory = directory
        self._process = process

    def reach(self, point: str) -> None:
        """Does what the point is armed with, if it is. Raises OSError for `full`."""
        armed = self._directory / f"{self._process}.{point}"
        taken = self._directory / f"{armed.name}.taken"
        try:
            order = armed.read_text(encoding="ascii")
            if not order:
                return  # it is being written
            # The rename decides between two threads that reach the point together. Whoever armed
            # it may take the file away as soon as it has its new name.
            armed.rename(taken)
        except FileNotFoundError:
            return
        word, _, argument = order.strip().partition(" ")
        match word:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
                # Another thread may take the signal: this one must not go on before it stops all.
                time.sleep(_STOP_LANDS_S)
            case "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "wait":
                time.sleep(float(argument))
            case _:
                raise ValueError(f"{armed}: no such fault: {word!r}")

    def skewed(self, now: datetime) -> datetime:
        """The time a wrong wall clock shows."""
        try:
            text = (self._directory / f"{self._process}.clock").read_text(encoding="ascii")
        except FileNotFoundError:
            return now
        return now + timedelta(seconds=float(text))


def _armed() -> ArmedFaults | None:
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return None
    return ArmedFaults(Path(directory), os.environ.get(PROCESS_VARIABLE, "process"))


_FAULTS: Final = _armed()
reach: Final[Callable[[str], None]] = _nothing if _FAULTS is None else _FAULTS.reach
skewed: Final[Callable[[datetime], datetime] | None] = None if _FAULTS is None else _FAULTS.skewed
