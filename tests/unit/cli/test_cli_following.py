"""Following an erasure: each change once, patience with a restart, an end."""

from __future__ import annotations

import pytest
from cli_builders import a_removal, an_attempt, an_erasure, stamp

from letheon.cli.following import PATIENCE_SECONDS, Narration, follow
from letheon.errors import CoordinatorUnreachable
from letheon.v1 import erasures_pb2

Erasure = erasures_pb2.Erasure
FAIL, PASS = erasures_pb2.Attempt.FAIL, erasures_pb2.Attempt.PASS


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


def readings(*answers: Erasure | Exception) -> object:
    left = list(answers)

    def read() -> Erasure:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


def test_each_change_is_given_once_and_the_last_is_terminal() -> None:
    time = Time()
    read = readings(
        an_erasure(), an_erasure(), an_erasure(Erasure.CLAIMED), an_erasure(Erasure.CERTIFIED)
    )
    states = [e.state for e in follow(read, wait=time.wait, monotonic=lambda: time.now)]
    assert states == [Erasure.RECEIVED, Erasure.CLAIMED, Erasure.CERTIFIED]


def test_a_coordinator_that_restarts_is_waited_for() -> None:
    time = Time()
    read = readings(an_erasure(), CoordinatorUnreachable("away"), an_erasure(Erasure.CANCELLED))
    states = [e.state for e in follow(read, wait=time.wait, monotonic=lambda: time.now)]
    assert states == [Erasure.RECEIVED, Erasure.CANCELLED]


def test_patience_ends() -> None:
    time = Time()
    read = readings(CoordinatorUnreachable("away"))
    with pytest.raises(CoordinatorUnreachable):
        list(follow(read, wait=time.wait, monotonic=lambda: time.now))
    assert time.now >= PATIENCE_SECONDS


def test_the_narration_says_each_thing_once() -> None:
    narration = Narration()
    stages = [
        an_erasure(),
        an_erasure(Erasure.ERASING, removal=a_removal(), removed_at=stamp(0.5)),
        an_erasure(
            Erasure.VERIFYING, removal=a_removal(), removed_at=stamp(0.5),
            attempts=[an_attempt(1, FAIL)],
        ),
        an_erasure(
            Erasure.CERTIFIED, removal=a_removal(), removed_at=stamp(0.5),
            attempts=[an_attempt(1, FAIL), an_attempt(2, PASS)], concluded_at=stamp(9),
        ),
    ]  # fmt: skip
    lines = [line for stage in stages for line in narration.lines(stage)]
    told = "\n".join(lines)
    for once in ("fenced:", "removed: epoch 1", "attempt 1 at", "attempt 2 at", "CERTIFIED"):
        assert told.count(once) == 1, once
    assert "9 entries subtracted" in told
    assert "9.00 s  CERTIFIED" in told
    assert "letheon certificate verify e1" in told


def test_a_method_that_subtracts_nothing_is_told_as_such() -> None:
    erasure = an_erasure(Erasure.ERASING, removal=a_removal(subtracted=False))
    assert "nothing subtracted" in "\n".join(Narration().lines(erasure))
