"""Telling systemd how a service does: a datagram to the socket that it names.

Source: sd_notify(3). Without systemd (no NOTIFY_SOCKET) every call does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Mapping

from letheon.servicekit.clock import Clock


class Notifier:
    """`alive` is called wherever work moves; it feeds the watchdog often enough and no more."""

    def __init__(self, clock: Clock, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A name in the abstract namespace is written with @ and begins with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._clock = clock
        self._every_s = _watchdog_seconds(environ) / 2.0
        self._fed_at = -self._every_s
        self._lock = threading.Lock()  # of _fed_at

    @property
    def feed_every_s(self) -> float | None:
        """How often `alive` has to be called, in seconds; None: nobody watches."""
        return self._every_s or None

    def ready(self) -> None:
        """The service is up."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service ends on purpose."""
        self._send("STOPPING=1")

    def status(self, sentence: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={sentence}")

    def alive(self) -> None:
        """Something has moved."""
        if not self._every_s:
            return
        with self._lock:
            now = self._clock.monotonic()
            if now - self._fed_at < self._every_s / 2.0:
                return
            self._fed_at = now
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A supervisor that is gone must not take the service with it.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(1.0)
            out.sendto(message.encode(), self._address)


class WatchedClock:
    """Another clock whose waits, however long, are no silence."""

    def __init__(self, clock: Clock, notifier: Notifier) -> None:
        self._clock = clock
        self._notifier = notifier
        self.now = clock.now
        self.monotonic = clock.monotonic

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits until the event is set (True) or the seconds are over (False)."""
        step_s = (self._notifier.feed_every_s or seconds) / 2.0
        end = self.monotonic() + seconds
        while True:
            self._notifier.alive()
            left_s = end - self.monotonic()
            if self._clock.wait(event, min(left_s, step_s) if step_s > 0 else left_s):
                return True
            if self.monotonic() >= end:
                return False


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """WATCHDOG_USEC, if it is meant for this process; else 0."""
    micros, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not micros.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(micros) / 1e6
