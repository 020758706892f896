"""What waits at once is done at once, and nobody waits for company."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.servicekit.together import Together

LOOK_AGAIN_S = 0.002


def await_waiting(together: Together[int, int], count: int) -> None:
    """Until so many jobs wait; a test that hangs here is ended by its limit."""
    pause = threading.Event()
    while together.waiting < count:
        pause.wait(LOOK_AGAIN_S)


def one_by_one(
    together: Together[int, int], pool: ThreadPoolExecutor, jobs: Sequence[int], waiting: int = 0
) -> list[Future[int]]:
    """Every job from a thread of its own, in order."""
    futures = []
    for number, job in enumerate(jobs, start=1):
        futures.append(pool.submit(together, job))
        await_waiting(together, waiting + number)
    return futures


class Slow:
    """Does the first batch when it is told to, the others at once; doubles, refuses negatives."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, jobs: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(jobs))
        self.begun.set()
        self.go_on.wait()
        if 13 in jobs:
            raise OSError("all of them fail")
        return [ValueError(job) if job < 0 else 2 * job for job in jobs]


def test_who_is_alone_is_served_at_once() -> None:
    together = Together[int, int](lambda jobs: [job + 1 for job in jobs])
    assert together(1) == 2
    assert together.waiting == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-5, 12), max_size=8), st.integers(1, 5))
def test_those_who_came_meanwhile_are_served_in_order_and_each_with_its_own(
    jobs: list[int], most: int
) -> None:
    slow = Slow()
    together = Together[int, int](slow, most=most)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(together, 1)
        slow.begun.wait()
        others = one_by_one(together, pool, jobs)
        slow.go_on.set()
        assert first.result() == 2
        for job, other in zip(jobs, others, strict=True):
            if job < 0:
                assert str(other.exception()) == str(job)
            else:
                assert other.result() == 2 * job
    parts = [jobs[at : at + most] for at in range(0, len(jobs), most)]
    assert slow.batches == [[1], *parts]


def test_what_fails_for_all_is_raised_to_all_and_the_next_are_served() -> None:
    slow = Slow()
    together = Together[int, int](slow, most=2)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(together, 1)
        slow.begun.wait()
        others = one_by_one(together, pool, [13, 2, 3])
        slow.go_on.set()
        assert first.result() == 2
        for failed in others[:2]:
            with pytest.raises(OSError, match="all of them"):
                failed.result()
        assert others[2].result() == 6
