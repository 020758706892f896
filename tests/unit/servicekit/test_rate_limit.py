"""Bytes a second: a law on a fake clock."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumping_clock import JumpingClock

from letheon.servicekit.rate import RateLimit


@given(
    st.floats(10, 1e6),
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 3)), min_size=1, max_size=40),
)
def test_in_no_interval_more_passes_than_rate_times_time_plus_the_burst(
    rate: float, pieces: list[tuple[int, float]]
) -> None:
    clock, free = JumpingClock(), threading.Event()
    limit = RateLimit(rate, clock, burst_s=0.5)
    passed = []
    for size, idle_s in pieces:
        clock.at += idle_s
        limit.take(size, free)
        passed.append((clock.at, size))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            seconds = passed[last][0] - passed[first][0]
            # The first piece was waited for before the interval began.
            total = sum(size for _, size in passed[first + 1 : last + 1])
            assert total <= rate * (seconds + 0.5) * (1 + 1e-9) + 1e-6


def test_a_stop_ends_the_wait() -> None:
    clock, stopping = JumpingClock(), threading.Event()
    limit = RateLimit(1.0, clock)
    stopping.set()
    limit.take(10_000, stopping)
    assert clock.at == 0.0


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        RateLimit(0.0, JumpingClock())
