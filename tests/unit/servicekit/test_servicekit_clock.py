import threading
from datetime import UTC, timedelta

import pytest

from letheon.servicekit.clock import FakeClock, SystemClock


def test_a_fake_clock_moves_only_when_told_to() -> None:
    clock = FakeClock()
    before = clock.now()
    clock.advance(90.0)
    assert clock.now() - before == timedelta(seconds=90)
    assert clock.monotonic() == 90.0


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)


def test_a_wait_on_a_fake_clock_ends_when_time_has_advanced() -> None:
    clock, woken = FakeClock(), []
    waiter = threading.Thread(target=lambda: woken.append(clock.wait(threading.Event(), 10)))
    waiter.start()
    clock.await_waiters(1)
    clock.advance(9.0)
    assert woken == []
    clock.advance(1.0)
    waiter.join(5)
    assert woken == [False]


def test_a_wait_on_a_fake_clock_ends_when_the_event_is_set() -> None:
    clock, event, woken = FakeClock(), threading.Event(), []
    waiter = threading.Thread(target=lambda: woken.append(clock.wait(event, 10)))
    waiter.start()
    clock.await_waiters(1)
    event.set()
    waiter.join(5)
    assert woken == [True]


def test_awaiting_waiters_that_never_come_is_an_error() -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        FakeClock().await_waiters(1, timeout_s=0.01)


def test_the_system_clock_speaks_utc() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.wait(threading.Event(), 0.0) is False
    assert clock.monotonic() <= clock.monotonic()
