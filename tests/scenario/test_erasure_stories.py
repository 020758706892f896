"""Stories of erasures under a fake clock: several at once, kills, restarts, a forgetful stream."""

from pathlib import Path

import numpy as np
import pytest
from builders import a_plan, a_vector
from erasure_builders import a_running_federation

from letheon.errors import ClaimLost, PatchVoid, SiteFenced, StaleEpoch
from letheon.federation.arithmetic import relative_error
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.erasure_queue import MemoryErasureQueue
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, training_pb2

FEDBUFF = {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "key.pem")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_calibrator_that_is_killed_is_replaced_and_told_so_when_it_wakes_up(
    tmp_path: Path, clock: FakeClock, key: SigningKey
) -> None:
    with a_running_federation(tmp_path, clock=clock) as federation:
        federation.train("south", "north")
        filed = federation.request("south")
        first = federation.job(filed.name, "first")
        removal = first.remove()
        first.renew(progress_json='{"stage":"gate"}')
        clock.advance(31)
        second = federation.job(filed.name, "second")
        assert second.remove() == removal
        federation.train("north", "west", seed=40)
        second.passes()
        with pytest.raises(ClaimLost):
            first.passes()
        assert second.certify(key).state == erasures_pb2.Erasure.CERTIFIED


def test_a_stream_that_was_flushed_loses_no_erasure(tmp_path: Path, clock: FakeClock) -> None:
    with a_running_federation(tmp_path, clock=clock) as federation:
        filed = federation.request("south")
        federation.coordinator.relay.run_once()
        lost = federation.queue.take("c1")
        assert lost is not None
        federation.queue.acknowledge(lost)
        clock.advance(121)
        federation.coordinator.relay.run_once()
        entry = federation.queue.take("c1")
        assert entry is not None
        assert f"erasures/{entry.erasure}" == filed.name


def test_the_coordinator_restarts_in_the_middle_of_an_erasure(
    tmp_path: Path, clock: FakeClock, key: SigningKey
) -> None:
    queue = MemoryErasureQueue()
    with a_running_federation(tmp_path, clock=clock, queue=queue) as federation:
        federation.train("south", "north", "west", "south")
        filed = federation.request("south")
    with a_running_federation(tmp_path, clock=clock, queue=queue) as federation:
        with pytest.raises(SiteFenced):
            federation.train("south")
        job = federation.job(filed.name)
        removal = job.remove()
        head = federation.head
    with a_running_federation(tmp_path, clock=clock, queue=queue) as federation:
        assert np.array_equal(federation.head, head)
        job.federation = federation
        assert job.remove() == removal
        federation.train("north", "west", seed=40)
        evidence = job.passes()
        assert evidence["removal_relative_error"] <= 1e-5
    with a_running_federation(tmp_path, clock=clock, queue=queue) as federation:
        job.federation = federation
        assert job.certify(key).state == erasures_pb2.Erasure.CERTIFIED
        assert federation.verify_ledger().holds


def test_of_two_erasures_at_once_the_evidence_from_before_the_later_removal_is_void(
    tmp_path: Path, clock: FakeClock, key: SigningKey
) -> None:
    sites = ("north", "south", "west", "east")
    with a_running_federation(tmp_path, clock=clock, sites=sites) as federation:
        federation.train(*sites)
        one = federation.job(federation.request("south", "r1").name)
        one.remove()
        federation.train("north", "east", "west", seed=40)
        candidate = federation.version
        one.ask_evaluate("gate-1", candidate)
        two = federation.job(federation.request("west", "r2").name)
        with pytest.raises(PatchVoid):
            one.attempt(candidate)
        two.remove()
        with pytest.raises(PatchVoid):
            one.attempt(candidate)
        federation.train("north", "east", seed=60)
        for job in (one, two):
            assert job.passes()["removal_relative_error"] <= 1e-5
            assert job.certify(key).state == erasures_pb2.Erasure.CERTIFIED
        assert federation.verify_ledger().holds


def test_retained_sites_train_on_and_lose_only_the_task_at_hand(
    tmp_path: Path, clock: FakeClock
) -> None:
    with a_running_federation(tmp_path, clock=clock) as federation:
        federation.train("south", "north", "west")
        base, epoch = federation.version, federation.epoch
        job = federation.job(federation.request("south").name)
        federation.client.push("north", a_vector(50), base_version=base, epoch=epoch)
        job.remove()
        with pytest.raises(StaleEpoch):
            federation.client.push("west", a_vector(51), base_version=base, epoch=epoch)
        heartbeat = federation.client.training.Heartbeat(
            training_pb2.HeartbeatRequest(site="sites/west", task="tasks/train-0-0-0")
        )
        assert heartbeat.epoch == 1
        assert len(federation.train("north", "west", "north", seed=60)) == 3


def test_the_erased_head_is_that_of_a_federation_that_never_had_the_site(
    tmp_path: Path, clock: FakeClock
) -> None:
    plan = a_plan(strategy={"plugin": "fedasync", "arguments": {"staleness": "constant"}})
    with a_running_federation(tmp_path / "with", clock=clock, plan=plan) as federation:
        for seed, site in enumerate(["north", "south", "west", "south", "north"]):
            federation.client.push(site, a_vector(seed, scale=1.0), base_version=federation.version)
        federation.job(federation.request("south").name).remove()
        erased = federation.head
    with a_running_federation(tmp_path / "without", clock=clock, plan=plan) as federation:
        for seed, site in ((0, "north"), (2, "west"), (4, "north")):
            federation.client.push(site, a_vector(seed, scale=1.0), base_version=federation.version)
        assert relative_error(erased, federation.head) <= 1e-5


def test_a_buffering_federation_erases_too(
    tmp_path: Path, clock: FakeClock, key: SigningKey
) -> None:
    with a_running_federation(tmp_path, clock=clock, plan=a_plan(strategy=FEDBUFF)) as federation:
        federation.train("south", "north", "west")
        receipts = federation.train("south", "north", seed=40)
        assert {r.outcome for r in receipts} == {training_pb2.Receipt.BUFFERED}
        job = federation.job(federation.request("south").name)
        removal = job.remove()
        assert removal.voided_entries == 1
        federation.train("north", "west", "north", seed=70)
        evidence = job.passes()
        assert evidence["removal_relative_error"] <= 1e-5
        assert evidence["destroyed"]["payloads"] == 2
        assert job.certify(key).state == erasures_pb2.Erasure.CERTIFIED
        assert federation.verify_ledger().holds


def test_a_resent_delta_of_the_subject_changes_nothing_after_the_fence(
    tmp_path: Path, clock: FakeClock
) -> None:
    with a_running_federation(tmp_path, clock=clock) as federation:
        delta = a_vector(9)
        first = federation.client.push("south", delta, update_id="u-1")
        federation.request("south")
        rows = federation.rows()
        again = federation.client.push("south", delta, update_id="u-1")
        assert again == first
        with pytest.raises(SiteFenced):
            federation.client.push("south", delta, update_id="u-2", base_version=1)
        assert federation.rows() == rows
