"""After an erasure that failed: the fence stays, nothing is promoted, removal still works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import a_plan
from erasure_builders import FAIL, Federation, a_running_federation

from coordinator.domain.model import FederationRow
from letheon.errors import SiteFenced
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2

Erasure = erasures_pb2.Erasure
SITES = ("north", "south", "west", "east")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "key.pem")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def served(federation: Federation) -> FederationRow:
    with federation.coordinator.core.store.read() as uow:
        return uow.federation.get()


def fails(federation: Federation, site: str, request_id: str) -> Erasure:
    """A suppressing method that comes to nothing."""
    job = federation.job(federation.request(site, request_id, method="afu_ic_rebased").name)
    assert not job.remove().subtracted
    job.ask_evaluate(f"{request_id}-gate", federation.version)
    job.attempt(federation.version, FAIL)
    return job.conclude(failure="no forgetting test passed")


def test_a_removal_certifies_what_a_suppressing_method_could_not(
    tmp_path: Path, clock: FakeClock, key: SigningKey
) -> None:
    with a_running_federation(tmp_path, clock=clock) as federation:
        federation.train("north", "south", "west", "south", seed=1)
        assert fails(federation, "south", "r1").state == Erasure.FAILED
        with pytest.raises(SiteFenced):
            federation.train("south")
        federation.train("north", seed=30)
        job = federation.job(federation.request("south", "r2").name)
        before = federation.head
        removal = job.remove()
        assert removal.subtracted
        assert removal.removed_entries == 2
        assert removal.epoch == 2
        assert not np.array_equal(federation.head, before)
        federation.train("north", "west", "north", seed=50)
        evidence = job.passes()
        assert evidence["removal_relative_error"] <= 1e-5
        assert evidence["replay_equals_head"]
        assert evidence["destroyed"]["payloads"] == 2
        assert job.certify(key).state == Erasure.CERTIFIED
        assert not served(federation).serving_carries_subject
        assert federation.verify_ledger().holds


def test_a_version_promoted_meanwhile_is_marked_as_carrying_the_failed_subject(
    tmp_path: Path, clock: FakeClock, key: SigningKey
) -> None:
    with a_running_federation(tmp_path, clock=clock, sites=SITES) as federation:
        federation.train(*SITES)
        fails(federation, "west", "r1")
        job = federation.job(federation.request("south", "r2").name)
        job.remove()
        federation.train("north", "east", seed=40)
        job.passes()
        assert served(federation).serving_carries_subject
        assert job.certify(key).state == Erasure.CERTIFIED


def test_a_withdrawn_second_request_leaves_the_fence_of_the_failed_one(
    tmp_path: Path, clock: FakeClock
) -> None:
    plan = a_plan(serving={"policy": "serve-none"})
    with a_running_federation(tmp_path, clock=clock, plan=plan) as federation:
        federation.train("north", "south", "west")
        with federation.coordinator.core.store.write() as uow:
            uow.federation.save(replace(uow.federation.get(), serving_version=3))
            uow.commit()
        fails(federation, "south", "r1")
        withheld = served(federation)
        assert (withheld.serving_version, withheld.withheld_version) == (None, 3)
        again = federation.request("south", "r2")
        federation.erasures.CancelErasure(erasures_pb2.CancelErasureRequest(name=again.name))
        assert served(federation) == withheld
        with pytest.raises(SiteFenced):
            federation.train("south")
        other = federation.request("west", "r3")
        federation.erasures.CancelErasure(erasures_pb2.CancelErasureRequest(name=other.name))
        assert served(federation) == withheld
        federation.train("west", seed=60)
