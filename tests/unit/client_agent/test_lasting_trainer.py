"""A local training that takes at least so long, under a clock that a test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from client_agent import bootstrap
from client_agent.adapters.lasting_trainer import LastingTrainer
from client_agent.config import AgentConfig
from client_agent.domain.tasks import ModelFile, TaskAbandoned, TrainTask
from client_agent.domain.upload import Payload
from client_agent.ports import Holdings, TrainedDelta
from letheon.servicekit.clock import FakeClock

TASK = TrainTask("tasks/t", 0, "digest", 1, 0, 0.05)


class Instant:
    """Trains in no time, or in as much as it is told."""

    def __init__(self, clock: FakeClock, takes_s: float = 0.0) -> None:
        self.clock, self.takes_s = clock, takes_s
        self.abandoned = threading.Event()
        self.stopped = threading.Event()

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        self.clock.advance(self.takes_s)
        target.write_bytes(b"delta")
        holdings = Holdings(1, 1, 1, {}, "f", Path("unused"))
        return TrainedDelta(Payload(target, 5, "sha", "float32"), 0.5, 1, holdings)

    def abandon(self) -> None:
        self.abandoned.set()

    def stop(self, grace_s: float) -> None:
        self.stopped.set()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def begin(pool: ThreadPoolExecutor, trainer: LastingTrainer, folder: Path) -> Future[TrainedDelta]:
    return pool.submit(trainer.train, ModelFile(1, 0, folder / "model"), TASK, folder / "delta")


def lasting(clock: FakeClock, takes_s: float = 0.0) -> tuple[LastingTrainer, Instant]:
    inner = Instant(clock, takes_s)
    return LastingTrainer(inner, 10.0, clock), inner  # type: ignore[arg-type]


def test_a_delta_is_held_back_until_the_duration_is_over(
    clock: FakeClock, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    trainer, _ = lasting(clock, takes_s=4.0)
    training = begin(pool, trainer, tmp_path)
    clock.await_waiters(1)
    clock.advance(5.9)
    assert not training.done()
    clock.advance(0.1)
    assert training.result(10).payload.path.exists()


def test_a_training_that_takes_longer_by_itself_is_not_held_back(
    clock: FakeClock, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    trainer, _ = lasting(clock, takes_s=11.0)
    assert begin(pool, trainer, tmp_path).result(10)


@pytest.mark.parametrize("how", ["abandon", "stop"])
def test_the_wait_ends_at_once_when_the_task_is_of_no_use_any_more(
    clock: FakeClock, pool: ThreadPoolExecutor, tmp_path: Path, how: str
) -> None:
    trainer, inner = lasting(clock)
    training = begin(pool, trainer, tmp_path)
    clock.await_waiters(1)
    if how == "abandon":
        trainer.abandon()
    else:
        trainer.stop(1.0)
    with pytest.raises(TaskAbandoned):
        training.result(10)
    assert (inner.abandoned if how == "abandon" else inner.stopped).is_set()
    assert not (tmp_path / "delta").exists()


def test_the_news_of_one_task_does_not_end_the_next(
    clock: FakeClock, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    trainer, _ = lasting(clock)
    trainer.abandon()
    training = begin(pool, trainer, tmp_path)
    clock.await_waiters(1)
    clock.advance(10.0)
    assert training.result(10)


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_only_a_straggler_is_slowed_down(tmp_path: Path, seconds: float) -> None:
    config = AgentConfig(
        coordinator="127.0.0.1:1",
        site="north",
        state_dir=tmp_path,
        data={"plugin": "npz"},
        training={"min_duration_seconds": seconds},
    )
    running = bootstrap.build(config)
    try:
        assert isinstance(running.trainer, LastingTrainer) is (seconds > 0.0)
    finally:
        running.close()
