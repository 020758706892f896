"""A federation in synchronous rounds: it waits for the slowest, and forgets like the others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import NOON, a_plan, a_vector
from erasure_builders import Federation, a_running_federation

from letheon.errors import SiteFenced, StaleEpoch
from letheon.federation.arithmetic import accumulate, relative_error
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, training_pb2

PLAN = a_plan(strategy={"plugin": "fedavg"})


def push(federation: Federation, site: str, seed: int) -> training_pb2.Receipt:
    return federation.client.push(
        site, a_vector(seed), base_version=federation.version, epoch=federation.epoch
    )


def beat(federation: Federation, *sites: str) -> None:
    for site in sites:
        federation.client.training.Heartbeat(training_pb2.HeartbeatRequest(site=f"sites/{site}"))


def details(federation: Federation, kind: str) -> dict[str, Any]:
    rows = [row for row in federation.rows() if row.kind == kind]
    content: dict[str, Any] = json.loads(rows[-1].canonical_json)
    return content["details"]


def upkeep(federation: Federation) -> None:
    """What the coordinator does every second."""
    federation.coordinator.maintenance.run_once()


def test_a_withdrawal_voids_what_waits_of_the_site_and_the_rounds_go_on_to_the_certificate(
    tmp_path: Path,
) -> None:
    with a_running_federation(tmp_path / "f", plan=PLAN) as federation:
        start = federation.head
        for number, site in enumerate(["north", "south", "west"]):
            push(federation, site, number)
        south, north = push(federation, "south", 10), push(federation, "north", 11)
        filed = federation.request("south")
        assert details(federation, "void")["entries"] == [south.entry]
        with pytest.raises(SiteFenced):
            push(federation, "south", 12)
    with a_running_federation(tmp_path / "f") as federation:  # the round survives a restart
        job = federation.job(filed.name)
        removal = job.remove()
        assert (removal.voided_entries, removal.removed_entries) == (1, 1)
        assert [entry for entry, _ in details(federation, "removal")["flushed"]] == [north.entry]
        expected = start.copy()
        for seed, coefficient in ((0, 1 / 3), (2, 1 / 3), (11, 1.0)):
            accumulate(expected, float(np.float32(coefficient)), a_vector(seed))
        assert relative_error(federation.head, expected) <= 1e-5
        with pytest.raises(StaleEpoch):
            federation.client.push("west", a_vector(13), base_version=1, epoch=0)
        for number, site in enumerate(["north", "west", "west", "north"], start=20):
            push(federation, site, number)
        assert federation.version == removal.version_after + 2
        assert job.passes()["replay_equals_head"]
        done = job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))
        assert done.state == erasures_pb2.Erasure.CERTIFIED
        push(federation, "west", 30)
        head = federation.head
        assert federation.verify_ledger().holds
    with a_running_federation(tmp_path / "f") as federation:
        assert np.array_equal(federation.head, head)
        assert federation.verify_ledger().holds


def test_a_fence_ends_the_round_that_only_the_fenced_site_held_up(tmp_path: Path) -> None:
    with a_running_federation(tmp_path, plan=PLAN) as federation:
        for number, site in enumerate(["north", "west"]):
            push(federation, site, number)
        upkeep(federation)
        assert federation.version == 0
        federation.request("south")
        upkeep(federation)
        assert federation.version == 1
        assert federation.verify_ledger().holds


def test_a_hospital_that_goes_dark_costs_one_patience_and_is_in_the_next_round_when_it_is_back(
    tmp_path: Path,
) -> None:
    clock, rounds = FakeClock(NOON), {"rounds": {"patience_seconds": 30.0}}
    with a_running_federation(tmp_path, plan=PLAN, clock=clock, config=rounds) as federation:
        for number, site in enumerate(["north", "west"]):
            push(federation, site, number)
        clock.advance(31.0)
        beat(federation, "north", "west")
        upkeep(federation)
        assert federation.version == 1
        for number, site in enumerate(["north", "west"], start=10):  # nobody waits for it now
            push(federation, site, number)
        assert federation.version == 2
        beat(federation, "south")
        for number, site in enumerate(["north", "west"], start=20):
            push(federation, site, number)
        assert federation.version == 2
        push(federation, "south", 22)
        assert federation.version == 3
        assert federation.verify_ledger().holds
