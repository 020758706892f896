"""What systemd is told, read from a real socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jumping_clock import JumpingClock

from letheon.servicekit.clock import FakeClock
from letheon.servicekit.sd_notify import Notifier, WatchedClock


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.setblocking(False)
        yield made


def heard(supervisor: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(supervisor.recv(4096).decode())
        except BlockingIOError:
            return found


def environ(supervisor: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": supervisor.getsockname(), **more}


def test_readiness_status_and_stopping_are_told(supervisor: socket.socket) -> None:
    notifier = Notifier(FakeClock(), environ(supervisor))
    notifier.ready()
    notifier.status("enrolled")
    notifier.stopping()
    assert heard(supervisor) == ["READY=1", "STATUS=enrolled", "STOPPING=1"]


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier(FakeClock(), {})
    notifier.ready()
    notifier.alive()
    assert notifier.feed_every_s is None


def test_a_supervisor_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    Notifier(FakeClock(), {"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_the_watchdog_is_fed_often_enough_and_no_more(supervisor: socket.socket) -> None:
    clock = FakeClock()
    notifier = Notifier(clock, environ(supervisor, WATCHDOG_USEC="8000000"))
    for _ in range(100):  # ten seconds of work that moves every 100 ms
        notifier.alive()
        clock.advance(0.1)
    assert heard(supervisor) == ["WATCHDOG=1"] * 5  # every 2 s, a quarter of what is allowed


def test_a_watchdog_of_another_process_is_none_of_ours(supervisor: socket.socket) -> None:
    told = environ(supervisor, WATCHDOG_USEC="8000000", WATCHDOG_PID=str(os.getpid() + 1))
    assert Notifier(FakeClock(), told).feed_every_s is None


def test_a_long_wait_of_the_loop_is_no_silence(supervisor: socket.socket) -> None:
    clock = JumpingClock()
    notifier = Notifier(clock, environ(supervisor, WATCHDOG_USEC="8000000"))
    assert not WatchedClock(clock, notifier).wait(threading.Event(), 20.0)
    assert clock.at == 20.0
    assert max(clock.waits) <= 4.0  # half of what is allowed
    assert len(heard(supervisor)) >= 5


def test_an_event_ends_a_watched_wait() -> None:
    clock, event = FakeClock(), threading.Event()
    event.set()
    notifier = Notifier(clock, {"WATCHDOG_USEC": "8000000"})
    assert WatchedClock(clock, notifier).wait(event, 100.0)
