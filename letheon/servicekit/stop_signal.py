"""The end of a service: SIGTERM and SIGINT in a thread of their own, and a limit to what follows.

A Python signal handler runs between two instructions of the main thread, which may hold any lock
at that moment, the one inside `threading.Event.wait` included: a handler that sets the event the
main thread waits for can stop the process for ever. And a handler does not run at all while the
main thread sits in a long C call. The C-level handler only writes a byte to a pipe, and a thread
reads it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAY_WHERE_AFTER_S = 5.0


def on_stop_signal(stop: Callable[[], None]) -> None:
    """Calls `stop` once, at the first SIGTERM or SIGINT. Call it from the main thread."""
    reading, writing = os.pipe()
    _listen(reading, stop)
    _write_signals_to(writing)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)


def end_within(grace_s: float, code: int) -> None:
    """Ends the process with `code` so long from now, whatever hangs.

    Everything that matters is durable already; an orderly end is a courtesy with a limit. Where
    no Python thread runs any more (a lock held in C code, an interpreter that cannot finish), a
    thread of C prints every stack five seconds later and ends the process with 1.
    """
    last_resort = threading.Timer(grace_s, os._exit, (code,))
    last_resort.daemon = True
    last_resort.start()
    faulthandler.dump_traceback_later(grace_s + _SAY_WHERE_AFTER_S, exit=True)


@contextmanager
def stopped_by_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the former handlers come back afterwards.

    Enter it in the main thread.
    """
    stopped = threading.Event()
    reading, writing = os.pipe()
    listener = _listen(reading, stopped.set)
    before_fd = _write_signals_to(writing)
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(writing)
        listener.join()


def _listen(reading: int, stop: Callable[[], None]) -> threading.Thread:
    """Ends after the first of our signals, or when the other end of the pipe is closed."""

    def wait() -> None:
        # Every signal that Python handles writes its number, not ours alone.
        while (heard := os.read(reading, 1)) and heard[0] not in _SIGNALS:
            pass
        if heard:
            stop()
        os.close(reading)

    listener = threading.Thread(target=wait, name="stop-signal", daemon=True)
    listener.start()
    return listener


def _write_signals_to(writing: int) -> int:
    os.set_blocking(writing, False)
    return signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
