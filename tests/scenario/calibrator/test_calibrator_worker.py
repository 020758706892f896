import json
import threading
from contextlib import contextmanager
from functools import partial

import pytest
from erasure_world import ScriptedCoordinator
from prometheus_client import CollectorRegistry

from calibrator.metrics import CalibratorMetrics
from calibrator.worker import Pace, Worker
from letheon import errors
from letheon.servicekit.clock import SystemClock
from letheon.servicekit.erasure_queue import MemoryErasureQueue
from letheon.v1 import erasures_pb2 as pb

DEADLINE_S = 60.0


class WatchedQueue(MemoryErasureQueue):
    """Tells a test when an entry was answered."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.answered = threading.Semaphore(0)

    def acknowledge(self, entry):
        super().acknowledge(entry)
        self.answered.release()

    def bury(self, entry, reason):
        super().bury(entry, reason)
        self.answered.release()


class Outcomes:
    """Lets a test wait until an entry came to a certain end."""

    def __init__(self, metrics):
        self.seen = threading.Condition()
        self.names = []
        counter = metrics.entries
        labels = counter.labels

        def noted(outcome):
            with self.seen:
                self.names.append(outcome)
                self.seen.notify_all()
            return labels(outcome)

        counter.labels = noted

    def wait_for(self, outcome):
        with self.seen:
            assert self.seen.wait_for(lambda: outcome in self.names, DEADLINE_S), self.names


@contextmanager
def working(made, queue, *, name="calibrator-1", drive=None, **pace):
    metrics = CalibratorMetrics(CollectorRegistry())
    worker = Worker(
        name=name,
        queue=queue,
        claims=made.client,
        drive=drive or made.drive(),
        clock=SystemClock(),
        metrics=metrics,
        backoff=made.backoff,
        make_salt=lambda: "00ff",
        pace=Pace(**{"block_s": 0.05, "renew_s": 0.05, **pace}),
    )
    outcomes = Outcomes(metrics)
    stop = threading.Event()
    thread = threading.Thread(target=partial(worker.run, stop))
    thread.start()
    try:
        yield outcomes, stop
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        assert worker.join(DEADLINE_S)
        assert not thread.is_alive()


def test_an_announced_erasure_is_carried_out_and_its_entry_acknowledged(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue()
    made = bench(world)
    queue.announce("e1")
    with working(made, queue):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert world.erasure.state == pb.Erasure.CERTIFIED
    assert queue.depth() == 0


def test_a_request_of_a_consent_system_is_filed_and_only_then_acknowledged(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue()
    made = bench(world)
    world.refusals["request"] = [errors.StorageUnavailable("away") for _ in range(2)]
    request = {"request_id": "consent-7", "site": "north", "basis": "GDPR-7-3"}
    queue.add({"request": json.dumps(request), "schema": "1"})
    with working(made, queue):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    (filed,) = world.filed
    assert (filed.request_id, filed.site, filed.legal_basis) == (
        "consent-7",
        "sites/north",
        "GDPR-7-3",
    )
    assert filed.requester == "consent"
    assert world.calls["request"] == 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"erasure": "nobody-knows", "schema": "1"}, "UNKNOWN_ERASURE"),
        ({"erasure": "Not A Name", "schema": "1"}, "MALFORMED_NAME"),
        (
            {"request": '{"request_id":"r","site":"no/site","basis":"b"}', "schema": "1"},
            "MALFORMED_NAME",
        ),
    ],
)
def test_an_entry_nobody_can_act_on_is_buried_with_the_reason(bench, fields, reason):
    queue = WatchedQueue()
    made = bench(ScriptedCoordinator())
    queue.add(fields)
    with working(made, queue):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    (letter,) = queue.dead_letters()
    assert reason in letter.reason


def test_a_request_of_an_unknown_site_is_buried(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue()
    made = bench(world)
    world.refusals["request"] = [errors.UnknownSite("no such site")]
    queue.add({"request": '{"request_id":"r","site":"west","basis":"b"}', "schema": "1"})
    with working(made, queue):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert "UNKNOWN_SITE" in queue.dead_letters()[0].reason


def test_an_erasure_that_was_concluded_meanwhile_is_acknowledged(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue()
    made = bench(world)
    world.erasure.state = pb.Erasure.CANCELLED
    queue.announce("e1")
    with working(made, queue):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert queue.depth() == 0
    assert not queue.dead_letters()


def test_an_erasure_that_another_calibrator_holds_stays_in_the_queue(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue()
    made = bench(world)
    world.holder = "calibrator-2"
    queue.announce("e1")
    with working(made, queue) as (outcomes, _):
        outcomes.wait_for("held")
    assert queue.depth() == 1
    assert world.calls["remove"] == 0


def test_a_job_whose_claim_was_lost_is_dropped_and_its_entry_kept(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue()
    made = bench(world)
    made.clock.on_wait = lambda number: setattr(world, "token", 99)
    queue.announce("e1")
    with working(made, queue) as (outcomes, _):
        outcomes.wait_for("lost")
    assert queue.depth() == 1
    assert not world.attempts


def test_a_second_entry_of_an_erasure_in_hand_does_not_claim_it_again(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue()
    made = bench(world)
    second_answered = threading.Event()

    def announce_again(number):
        if number == 1:
            queue.announce("e1")
            assert queue.answered.acquire(timeout=DEADLINE_S)
            second_answered.set()

    made.clock.on_wait = announce_again
    queue.announce("e1")
    with working(made, queue):
        assert second_answered.wait(DEADLINE_S)
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert world.calls["claim"] == 1
    assert world.erasure.state == pb.Erasure.CERTIFIED


def test_a_worker_told_to_stop_leaves_its_step_stored_for_the_next_one(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue(reclaim_after_s=60.0)
    made = bench(world)
    made.clock.deltas = 0
    waiting = threading.Event()
    made.clock.on_wait = lambda number: waiting.set()
    queue.announce("e1")
    with working(made, queue) as (outcomes, stop):
        assert waiting.wait(DEADLINE_S)
        stop.set()
        outcomes.wait_for("checkpointed")
    assert json.loads(world.progress)["stage"] == "gate"
    assert world.calls["release"] == 1
    made.clock.deltas = 4
    with working(made, queue, name="calibrator-2"):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert world.erasure.state == pb.Erasure.CERTIFIED
    assert world.calls["remove"] == 1


class FaultyDrive:
    """A drive with a bug."""

    def run(self, job, signals):
        raise ZeroDivisionError


def test_a_job_that_crashes_leaves_its_entry_until_it_crashed_too_often(bench):
    queue = WatchedQueue(reclaim_after_s=0.0)
    made = bench(ScriptedCoordinator())
    queue.announce("e1")
    with working(made, queue, drive=FaultyDrive(), max_deliveries=3) as (outcomes, _):
        assert queue.answered.acquire(timeout=DEADLINE_S)
        outcomes.wait_for("buried")
    assert "its job crashed" in queue.dead_letters()[0].reason


def test_an_entry_that_killed_its_calibrator_too_often_is_buried_without_another_try(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue(reclaim_after_s=0.0)
    made = bench(world)
    queue.announce("e1")
    for _ in range(3):
        assert queue.take("killed")  # and never heard of again
    with working(made, queue, max_deliveries=3):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert "at each of 3 deliveries" in queue.dead_letters()[0].reason
    assert not world.calls["claim"]


def test_an_entry_that_another_calibrator_holds_is_never_taken_for_poison(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue(reclaim_after_s=0.02)
    made = bench(world)
    world.holder = "somebody"
    queue.announce("e1")
    with working(made, queue, max_deliveries=2) as (outcomes, _):
        with outcomes.seen:
            assert outcomes.seen.wait_for(lambda: len(outcomes.names) > 6, DEADLINE_S)
        world.holder = ""
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert set(outcomes.names) == {"held", "acknowledged"}
    assert queue.dead_letters() == ()


def test_an_entry_stays_in_hand_while_the_coordinator_is_away(bench):
    world, queue = ScriptedCoordinator(), WatchedQueue(reclaim_after_s=0.4)
    made = bench(world)
    world.refusals["claim"] = [errors.StorageUnavailable("away") for _ in range(8)]
    queue.announce("e1")
    with working(made, queue, max_deliveries=1) as (outcomes, _):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert outcomes.names == ["acknowledged"]
    assert world.erasure.state == pb.Erasure.CERTIFIED


def test_a_queue_that_is_away_is_waited_for(bench):
    class Away(WatchedQueue):
        failures = 2

        def take(self, consumer, block_s=0.0):
            if self.failures:
                self.failures -= 1
                raise errors.StorageUnavailable("Redis does not answer")
            return super().take(consumer, block_s)

    world, queue = ScriptedCoordinator(), Away()
    made = bench(world)
    queue.announce("e1")
    with working(made, queue):
        assert queue.answered.acquire(timeout=DEADLINE_S)
    assert world.erasure.state == pb.Erasure.CERTIFIED
