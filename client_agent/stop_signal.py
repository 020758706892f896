"""SIGTERM and SIGINT, delivered to a function in a thread of its own.

A Python signal handler runs between two instructions of the main thread, which may hold any lock
at that moment; and it does not run at all while the main thread sits in a long C call. The C-level
handler only writes a byte to a pipe, and a thread reads it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop_signal(stop: Callable[[], None]) -> None:
    """Calls `stop` once, at the first SIGTERM or SIGINT. Call it from the main thread."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait() -> None:
        os.read(reading, 1)
        stop()

    threading.Thread(target=wait, name="stop-signal", daemon=True).start()
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
