"""What a site is told to do."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from builders import NOON, a_core, a_vector, an_erasure, enrol, take, take_delta

from coordinator.core import Core
from coordinator.domain.site import fence
from coordinator.domain.task import Task, TaskKind
from coordinator.domain.training_task import TrainTask
from coordinator.domain.upload import DeltaPurpose
from coordinator.services.next_task import NextTask, Polling
from letheon.errors import SiteFenced, UnknownSite
from letheon.servicekit.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.fixture
def core(tmp_path: Path, clock: FakeClock, chosen_database: str | None) -> Core:
    built = a_core(tmp_path, database_url=chosen_database, clock=clock)
    enrol(built, "north", "south")
    return built


@pytest.fixture
def next_task(core: Core) -> NextTask:
    return NextTask(
        store=core.store,
        live=core.live,
        presence=core.presence,
        rounds=core.rounds,
        meter=core.metrics,
        clock=core.clock,
        rng=random.Random(1),
        polling=Polling(retry_after_s=2.0, jitter=0.25),
        federation="f",
        training=core.plan.training,
    )


def ask(core: Core, site: str, kind: TaskKind, name: str) -> None:
    erasure = None if kind is TaskKind.EVALUATE else "e1"
    with core.store.write() as uow:
        uow.tasks.add(Task(name, "r", site, erasure, kind, {"versions": [0]}, NOON))
        uow.commit()


def fence_north(core: Core) -> None:
    with core.store.write() as uow:
        uow.erasures.add(an_erasure("e1", "north"))
        uow.sites.save(fence(uow.sites.get("north"), "e1"))
        uow.commit()


def test_an_active_site_evaluates_before_it_trains(core: Core, next_task: NextTask) -> None:
    ask(core, "north", TaskKind.EVALUATE, "t1")
    for _ in range(2):  # handed out again until answered
        found = next_task("north", abandoned=None)
        assert isinstance(found, Task)
        assert found.id == "t1"
    assert isinstance(next_task("south", abandoned=None), TrainTask)


def test_a_fenced_site_gets_the_tasks_of_its_erasure_and_no_other(
    core: Core, next_task: NextTask
) -> None:
    ask(core, "north", TaskKind.EVALUATE, "t1")
    train = next_task("south", abandoned=None)
    fence_north(core)
    ask(core, "north", TaskKind.AUDIT, "t2")
    found = next_task("north", abandoned=None)
    assert isinstance(found, Task)
    assert found.id == "t2"
    assert not next_task.should_abandon("north", "t2")
    assert isinstance(train, TrainTask)
    assert next_task.should_abandon("north", train.id)  # a train task of a fenced site


def test_a_fenced_site_with_nothing_to_do_waits_with_jitter(
    core: Core, next_task: NextTask
) -> None:
    fence_north(core)
    delays = {next_task("north", abandoned=None) for _ in range(20)}
    assert len(delays) == 20
    for delay in delays:
        assert isinstance(delay, timedelta)
        assert 1.5 <= delay.total_seconds() <= 2.5


def test_a_delta_of_a_fenced_site_is_refused_and_leaves_no_bytes(core: Core) -> None:
    take_delta(core, "north", a_vector(1))
    payloads = core.blobs.payloads.all()
    fence_north(core)
    with pytest.raises(SiteFenced):
        take_delta(core, "north", a_vector(2))
    assert core.blobs.payloads.all() == payloads
    assert core.staging.all() == []
    with core.store.read() as uow:
        assert uow.uploads.all() == []
        assert uow.federation.counters() == {"accepted": 1, "fenced": 1}


def test_a_fence_in_mid_upload_stops_the_delta(core: Core) -> None:
    purpose = DeltaPurpose("north", "train-0-0-0", 0, 0, 0, 100, 0.5)
    assert take(core, purpose, a_vector(2), update_id="u1", size_limit=80) == 80
    fence_north(core)
    with pytest.raises(SiteFenced):
        take(core, purpose, a_vector(2), update_id="u1")
    assert core.staging.all() == []
    assert core.live.position.version == 0


def test_a_receipt_is_repeated_even_after_the_fence(core: Core) -> None:
    first = take_delta(core, "north", a_vector(1), base_version=0, update_id="u1")
    fence_north(core)
    assert take_delta(core, "north", a_vector(1), base_version=0, update_id="u1") == first
    assert core.live.position.version == 1


def test_an_unknown_site_is_told_so(next_task: NextTask) -> None:
    with pytest.raises(UnknownSite):
        next_task("nowhere", abandoned=None)
    with pytest.raises(UnknownSite):
        next_task.should_abandon("nowhere", None)


def test_signs_of_life_are_seen_at_once_and_written_down_later(
    core: Core, next_task: NextTask, clock: FakeClock
) -> None:
    clock.advance(100)
    next_task.should_abandon("north", None)
    with core.store.read() as uow:
        stored = uow.sites.get("north")
    assert stored.last_seen_at == NOON
    assert core.presence.on(stored).last_seen_at == NOON + timedelta(seconds=100)
    core.presence.save(core.store)
    with core.store.read() as uow:
        assert uow.sites.get("north").last_seen_at == NOON + timedelta(seconds=100)
