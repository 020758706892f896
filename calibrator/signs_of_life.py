"""Signs of life, given from a thread of their own while something is in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from letheon.servicekit.clock import Clock


@contextmanager
def repeating(action: Callable[[], bool], pause_s: float, clock: Clock) -> Iterator[None]:
    """Calls `action` every `pause_s` seconds until the block ends or it answers False.

    The block ends only when no call is under way any more: what follows it comes last.
    """
    done = threading.Event()

    def repeat() -> None:
        while not clock.wait(done, pause_s) and action():
            pass

    thread = threading.Thread(target=repeat, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
