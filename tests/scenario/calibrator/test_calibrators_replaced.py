"""Calibrators that are killed, frozen or stopped at any point, against a real coordinator."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from builders import a_coordinator, a_plan
from durability_tables import table
from real_erasure import Calibrator, Erasing, Sites, until

from letheon.errors import BadConfig
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.erasure_queue import RedisErasureQueue
from letheon.v1 import erasures_pb2

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
GATE = {"every": 3, "answer_timeout_seconds": 60.0, "straggler_grace_seconds": 0.0, "bootstrap": 20}


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    try:
        started = EmbeddedRedis(tmp_path_factory.mktemp("redis")).start()
    except BadConfig as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    yield started
    started.stop()


class World:
    """What a test has to do with."""

    def __init__(
        self,
        erasing: Erasing,
        sites: Sites,
        depth: Callable[[], int],
        make: Callable[[str], Calibrator],
    ) -> None:
        self.erasing = erasing
        self.depth = depth
        self.sites = sites
        self.first, self.second = make("calibrator-1"), make("calibrator-2")


@pytest.fixture
def world(
    tmp_path: Path, redis_server: EmbeddedRedis, request: pytest.FixtureRequest
) -> Iterator[World]:
    """Its parameter is the lease in seconds."""
    lease = {"lease_seconds": getattr(request, "param", 1.0)}
    with ExitStack() as stack:
        client = redis.Redis.from_url(redis_server.url)
        stack.callback(client.close)
        client.flushall()  # what the test before left would be taken first
        queue = RedisErasureQueue(redis_server.url)
        stack.callback(queue.close)
        coordinator, sites_client = stack.enter_context(
            a_coordinator(
                tmp_path / "central", plan=a_plan(gate=GATE), config={"claims": lease}, queue=queue
            )
        )
        sites = Sites(sites_client)
        stack.callback(sites.close)

        def make(name: str) -> Calibrator:
            made = Calibrator(tmp_path, name, coordinator.address, redis_server.url)
            stack.callback(made.close)
            return made

        erasing = Erasing(sites_client)
        erasing.request()
        yield World(erasing, sites, queue.depth, make)


DOCUMENTED = table("The calibrator")
# An attempt that does not pass is another story than the one told here.
POINTS = [point for point in DOCUMENTED if point != "calibrator.stored.record"]


def test_killed_at_every_point_one_after_the_other_calibrators_end_the_erasure_once(
    world: World,
) -> None:
    world.sites.start()
    for number, point in enumerate(POINTS):
        calibrator = (world.first, world.second)[number % 2]
        calibrator.arm(point, "kill")
        calibrator.start()
        assert calibrator.killed(), calibrator.log
        is_certified = world.erasing.now.state == erasures_pb2.Erasure.CERTIFIED
        assert is_certified == (DOCUMENTED[point]["certified"] == "yes")
    world.second.start()
    until(lambda: world.depth() == 0, "the entry of the erasure that is over is removed")
    world.second.signal(signal.SIGTERM)
    assert world.second.ends_with() == 0
    world.erasing.check_done_once()


@pytest.mark.parametrize("point", ["calibrator.step_done.method", "calibrator.step_done.record"])
def test_the_late_writes_of_a_frozen_calibrator_are_refused(world: World, point: str) -> None:
    world.sites.start()
    world.first.arm(point, "stop")
    world.first.start()
    until(world.first.is_frozen, "frozen")
    world.second.start()
    world.erasing.await_certified()
    before = world.erasing.now
    world.first.signal(signal.SIGCONT)
    until(lambda: '"claim_lost"' in world.first.log, "the frozen one is told")
    assert world.erasing.now == before
    for calibrator in (world.first, world.second):
        calibrator.signal(signal.SIGTERM)
        assert calibrator.ends_with() == 0
    world.erasing.check_done_once()
    assert "erasure_certified" not in world.first.log


@pytest.mark.parametrize("world", [60.0], indirect=True)
def test_one_that_is_stopped_hands_its_job_over_long_before_the_lease_ends(world: World) -> None:
    world.first.start()
    # Without sites that work it waits at the gate.
    until(lambda: '"stage": "gate"' in world.first.log, "the first waits at the gate")
    world.second.start()
    until(lambda: '"calibrator_started"' in world.second.log, "the second is ready")
    world.first.signal(signal.SIGTERM)
    assert world.first.ends_with() == 0
    ended = time.monotonic()
    until(lambda: world.erasing.now.holder == "calibrator-2", "taken over")
    assert time.monotonic() - ended < 5.0
    world.sites.start()
    world.erasing.await_certified()
    world.erasing.check_done_once()
