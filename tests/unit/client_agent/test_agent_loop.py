"""The loop under a clock on which waiting takes no time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from client_agent.agent import Agent, Parts
from client_agent.config import AgentConfig
from client_agent.domain.answers import Answer
from client_agent.domain.tasks import (
    Assignment,
    EvaluateTask,
    ModelFile,
    Pulse,
    SiteState,
    Standing,
    TaskOutcome,
    TrainTask,
    Wait,
)
from client_agent.domain.upload import Receipt, Upload
from client_agent.metrics import AgentMetrics
from client_agent.ports import Holdings
from client_agent.services.flush_outbox import FlushOutbox
from client_agent.services.model_cache import ModelCache
from letheon.errors import CoordinatorUnreachable, LetheonError, TooManyTransfers, WrongPlan
from letheon.federation.parameters import Layout
from letheon.federation.plan import Plan
from letheon.servicekit.backoff import Backoff

PLAN = Plan(
    name="tiny",
    classes=2,
    model={"plugin": "small_cnn"},
    image={"channels": 1, "height": 8, "width": 8},
    layout=[{"name": "w", "shape": [2]}],
)


class LeapingClock:
    """Nobody waits: a wait moves time on, up to the end, where it stops the loop."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.end_s = 0.0
        self.at_end: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.elapsed_s)

    def monotonic(self) -> float:
        return self.elapsed_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.elapsed_s += seconds
        if self.elapsed_s >= self.end_s:
            self.at_end()
        return event.is_set()


class World:
    """Coordinator, trainer and outbox of a loop under test; a train task at every poll."""

    def __init__(self) -> None:
        self.clock = LeapingClock()
        self.polled_at: list[float] = []
        self.trained_at: list[float] = []
        self.evaluated_at: list[float] = []
        self.instead: dict[int, Assignment | LetheonError] = {}  # by number of the poll

    def plan(self) -> Plan:
        return PLAN

    def register(self, *, display_name: str, holdings: Holdings, plan_digest: str) -> Standing:
        return Standing(SiteState.ACTIVE, "")

    def next_task(self, abandoned_task: str) -> Assignment:
        self.polled_at.append(self.clock.monotonic())
        answer = self.instead.get(len(self.polled_at))
        if isinstance(answer, LetheonError):
            raise answer
        return answer or Assignment(TrainTask("tasks/t", 0, PLAN.digest, 1, 0, 0.05), 0)

    def heartbeat(self, task: str) -> Pulse:
        return Pulse(0, abandon=False)

    def download(self, version: int | None, path: Path) -> ModelFile:
        raise NotImplementedError

    def receipt_of(self, upload: Upload) -> Receipt | None:
        raise NotImplementedError

    def push(self, upload: Upload, layout: Layout) -> Receipt:
        raise NotImplementedError

    def submit(self, task: str, answer: Answer) -> None:
        raise NotImplementedError

    def waiting(self) -> tuple[Upload, ...]:
        return ()

    def open(self) -> Holdings:
        return Holdings(1, 1, 1, {}, "f", Path("unused"))

    def adopt(self, plan: Plan) -> None: ...

    def abandon(self) -> None: ...

    def train(self, task: TrainTask) -> TaskOutcome:
        self.trained_at.append(self.clock.monotonic())
        return TaskOutcome.DONE

    def answer(self, task: EvaluateTask, plan: Plan) -> TaskOutcome:
        self.evaluated_at.append(self.clock.monotonic())
        return TaskOutcome.DONE


def run(world: World, folder: Path, *, until_s: float) -> None:
    config = AgentConfig(
        coordinator="c:1",
        site="north",
        state_dir=folder,
        data={"plugin": "npz"},
        training={"min_interval_seconds": 10},
        poll={"maximum_seconds": 30},
    )
    metrics = AgentMetrics(CollectorRegistry())
    agent = Agent(
        Parts(
            config=config,
            coordinator=world,
            trainer=world,  # type: ignore[arg-type]
            outbox=world,  # type: ignore[arg-type]
            cache=ModelCache(folder, world),
            train=world.train,  # type: ignore[arg-type]
            answer=world.answer,  # type: ignore[arg-type]
            flush=FlushOutbox(world, world, metrics, world.clock, timedelta(days=7), lambda: 0),  # type: ignore[arg-type]
            file_subjects=lambda: None,  # type: ignore[arg-type]
            index=lambda holdings: None,
            metrics=metrics,
            clock=world.clock,
            backoff=Backoff(1.0, 8.0, random.Random(1)),
        )
    )
    world.clock.end_s, world.clock.at_end = until_s, agent.stop
    agent.run()


def test_local_trainings_start_at_the_set_pace(tmp_path: Path) -> None:
    world = World()
    run(world, tmp_path, until_s=31.0)
    assert world.trained_at == [0.0, 10.0, 20.0, 30.0]


def test_other_tasks_run_in_the_slack_between_trainings(tmp_path: Path) -> None:
    world = World()
    world.instead[3] = Assignment(EvaluateTask("tasks/e", (0,)), 0)
    run(world, tmp_path, until_s=5.0)
    assert world.evaluated_at == [1.0]


def test_an_unreachable_coordinator_is_asked_again_with_growing_delays(tmp_path: Path) -> None:
    world = World()
    world.instead.update({n: CoordinatorUnreachable("gone") for n in range(1, 100)})
    run(world, tmp_path, until_s=100.0)
    gaps = [b - a for a, b in pairwise(world.polled_at)]
    assert all(0.999 <= gap <= 8.001 for gap in gaps)
    assert max(gaps) > 3.0


def test_what_only_a_human_can_mend_ends_the_loop(tmp_path: Path) -> None:
    world = World()
    world.instead[2] = WrongPlan("built for another plan")
    with pytest.raises(WrongPlan):
        run(world, tmp_path, until_s=10.0)


@pytest.mark.parametrize(
    ("answer", "expected_s"),
    [
        (Assignment(Wait(4.0), 0), 4.0),
        (Assignment(Wait(3600.0), 0), 30.0),
        (Assignment(Wait(0.0), 0), 0.05),
        (TooManyTransfers("full", retry_after_s=6.0), 6.0),
    ],
)
def test_the_coordinators_delay_is_kept_within_bounds(
    tmp_path: Path, answer: Assignment | LetheonError, expected_s: float
) -> None:
    world = World()
    world.instead[1] = answer
    run(world, tmp_path, until_s=1.5 * expected_s + 1.0)
    # Sites that were turned away together come back spread out, but none too early.
    assert expected_s <= world.polled_at[1] <= 1.5 * expected_s
