"""A federation that buffers: it trains, a site withdraws while deltas wait, the rest goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan, a_vector
from erasure_builders import Federation, a_running_federation

from letheon.errors import SiteFenced, StaleEpoch
from letheon.federation.arithmetic import accumulate, relative_error
from letheon.federation.parameters import Vector
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, training_pb2

PLAN = a_plan(strategy={"plugin": "fedbuff", "arguments": {"buffer_size": 4}})
BUFFERED = training_pb2.Receipt.BUFFERED


def push(federation: Federation, site: str, seed: int) -> training_pb2.Receipt:
    return federation.client.push(
        site, a_vector(seed), base_version=federation.version, epoch=federation.epoch
    )


def kinds(federation: Federation) -> list[str]:
    return [row.kind for row in federation.rows()]


def newest(federation: Federation, kind: str) -> dict[str, Any]:
    rows = [row for row in federation.rows() if row.kind == kind]
    content: dict[str, Any] = json.loads(rows[-1].canonical_json)
    return content["details"]


def merged(pairs: list[list[Any]], deltas: dict[int, Vector], target: Vector) -> None:
    """Adds the deltas of the entries, each by the coefficient that its row records."""
    for entry, coefficient in pairs:
        accumulate(target, float.fromhex(coefficient), deltas[entry])


def test_a_withdrawal_voids_what_waits_of_the_site_and_merges_what_waits_of_the_others(
    tmp_path: Path,
) -> None:
    deltas: dict[int, Vector] = {}
    with a_running_federation(tmp_path / "f", plan=PLAN) as federation:
        start = federation.head
        for number, site in enumerate(["north", "south", "west", "south"]):
            deltas[push(federation, site, number).entry] = a_vector(number)
        assert kinds(federation)[-1] == "flush"
        assert federation.version == 1
        waiting = {}
        for number, site in enumerate(["south", "north"], start=10):
            receipt = push(federation, site, number)
            assert receipt.outcome == BUFFERED
            waiting[site] = receipt
            deltas[receipt.entry] = a_vector(number)
        assert federation.version == 1
        filed = federation.request("south")
        assert newest(federation, "void")["entries"] == [waiting["south"].entry]
        with pytest.raises(SiteFenced):
            push(federation, "south", 20)
        first_flush = newest(federation, "flush")["merged"]
    with a_running_federation(tmp_path / "f") as federation:  # the buffer survives a restart
        rows = len(federation.rows())
        removal = federation.job(filed.name).remove()
        assert kinds(federation)[rows:] == ["removal"]
        flushed = newest(federation, "removal")["flushed"]
        assert [entry for entry, _ in flushed] == [waiting["north"].entry]
        assert (removal.voided_entries, removal.removed_entries) == (1, 2)
        expected = start.copy()
        merged([pair for pair in first_flush if pair[0] in (1, 3)], deltas, expected)
        merged(flushed, deltas, expected)
        assert relative_error(federation.head, expected) <= 1e-5
        assert federation.verify_ledger().holds


def test_a_buffering_federation_goes_on_to_its_certificate_and_verifies_after_a_restart(
    tmp_path: Path,
) -> None:
    with a_running_federation(tmp_path / "f", plan=PLAN) as federation:
        for number, site in enumerate(["north", "south", "west", "south", "north", "south"]):
            push(federation, site, number)
        job = federation.job(federation.request("south").name)
        job.remove()
        stale = a_vector(30)
        with pytest.raises(StaleEpoch):
            federation.client.push("north", stale, base_version=1, epoch=0)
        for number, site in enumerate(["north", "west", "north", "west"], start=40):
            push(federation, site, number)
        assert kinds(federation)[-1] == "flush"
        assert job.passes()["replay_equals_head"]
        done = job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))
        assert done.state == erasures_pb2.Erasure.CERTIFIED
        assert push(federation, "west", 50).outcome == BUFFERED
        head = federation.head
        assert federation.verify_ledger().holds
    with a_running_federation(tmp_path / "f") as federation:
        assert np.array_equal(federation.head, head)
        assert federation.verify_ledger().holds
