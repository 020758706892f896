"""A delta that looks poisoned is set aside, seen by the operator, and decided on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import Client, a_config, a_coordinator, a_plan, a_vector
from erasure_bench import Bench
from typer.testing import CliRunner

from coordinator.bootstrap import Coordinator
from coordinator.domain.quarantine import QuarantineState
from coordinator.erasure_wiring import erasure_context
from coordinator.training_wiring import receive_upload
from letheon.cli.main import app
from letheon.errors import UnknownUpdate, UpdateDecided
from letheon.v1 import training_pb2, updates_pb2, updates_pb2_grpc

SITES = ("east", "north", "south")
BASE = {site: a_vector(number) for number, site in enumerate(SITES)}


def honest(site: str, seed: int) -> np.ndarray:
    return BASE[site] + a_vector(seed, scale=0.02)


class World:
    def __init__(self, coordinator: Coordinator, client: Client, root: Path) -> None:
        self.coordinator, self.client, self.root = coordinator, client, root
        self.updates = updates_pb2_grpc.UpdatesStub(client.channel)

    @property
    def version(self) -> int:
        return self.coordinator.core.live.position.version

    @property
    def head(self) -> bytes:
        return self.coordinator.core.live.snapshot()[1].tobytes()

    def push(self, site: str, delta: np.ndarray, **more: str) -> training_pb2.Receipt:
        epoch = self.coordinator.core.live.position.epoch
        return self.client.push(site, delta, base_version=self.version, epoch=epoch, **more)

    def listed(self, *, everything: bool = False) -> list[updates_pb2.QuarantinedUpdate]:
        ask = updates_pb2.ListQuarantinedRequest(with_decided=everything)
        return list(self.updates.ListQuarantined(ask).updates)

    def payloads(self) -> set[str]:
        return set(self.coordinator.core.blobs.payloads.all())


def world(root: Path, mode: str = "quarantine") -> Iterator[World]:
    plan = a_plan(screening={"mode": mode})
    with a_coordinator(root, plan=plan) as (coordinator, client):
        client.register(*SITES)
        made = World(coordinator, client, root)
        for seed in range(4):
            for site in SITES:
                assert not made.push(site, honest(site, 10 * seed)).quarantined
        yield made


@pytest.fixture
def screened(tmp_path: Path) -> Iterator[World]:
    yield from world(tmp_path)


@pytest.fixture
def advised(tmp_path: Path) -> Iterator[World]:
    yield from world(tmp_path, "advise")


def test_a_poisoned_delta_is_kept_and_not_merged(screened: World) -> None:
    before, head = screened.version, screened.head
    assert before == 12
    scaled = screened.push("north", honest("north", 99) * np.float32(20), update_id="scaled")
    turned = screened.push("south", -honest("south", 98), update_id="turned")
    for receipt in (scaled, turned):
        assert receipt.quarantined
        assert receipt.outcome == training_pb2.Receipt.BUFFERED  # what older agents understand
    assert screened.version == before
    assert screened.head == head
    assert screened.push("north", honest("north", 97)).outcome == training_pb2.Receipt.MERGED
    found = {update.update_id: update for update in screened.listed()}
    assert "times the median" in found["scaled"].finding
    assert "points away" in found["turned"].finding
    assert found["turned"].cosine < -0.5
    assert found["scaled"].site == "sites/north"


def test_the_same_update_again_gets_the_same_receipt(screened: World) -> None:
    delta = -honest("north", 99)
    first = screened.push("north", delta, update_id="u")
    assert screened.push("north", delta, update_id="u") == first
    assert len(screened.listed()) == 1


def test_a_released_update_is_merged_once(screened: World) -> None:
    screened.push("north", -honest("north", 99), update_id="u")
    before = screened.version
    ask = updates_pb2.ReleaseUpdateRequest(update_id="u", reason="a new scanner")
    done = screened.updates.ReleaseUpdate(ask)
    assert done.receipt.outcome == training_pb2.Receipt.MERGED
    assert done.update.state == updates_pb2.QuarantinedUpdate.RELEASED
    assert done.update.entry == done.receipt.entry
    assert screened.updates.ReleaseUpdate(ask).receipt == done.receipt
    assert screened.version == before + 1
    assert screened.listed() == []
    (row,) = screened.listed(everything=True)
    assert row.decision == "a new scanner"
    with pytest.raises(UpdateDecided):
        screened.updates.RejectUpdate(updates_pb2.RejectUpdateRequest(update_id="u", reason="no"))
    *_, verdict = screened.coordinator.core.verify_ledger()
    assert verdict.holds


def test_a_rejected_update_leaves_a_row_and_no_payload(tmp_path: Path, screened: World) -> None:
    receipt = screened.push("north", -honest("north", 99), update_id="u")
    assert receipt.sha256 in screened.payloads()
    screened.coordinator.core.orphans.at_start()
    assert receipt.sha256 in screened.payloads(), "a sweep takes what waits for an orphan"
    address = ["--coordinator", screened.coordinator.address]
    shown = CliRunner().invoke(app, ["updates", "quarantined", "--format", "json", *address])
    assert '"u"' in shown.output
    done = CliRunner().invoke(app, ["updates", "reject", "u", "--reason", "poisoned", *address])
    assert done.exit_code == 0, done.output
    (row,) = screened.listed(everything=True)
    assert row.state == updates_pb2.QuarantinedUpdate.REJECTED
    screened.coordinator.core.orphans.at_start()
    with pytest.raises(UpdateDecided):
        screened.updates.ReleaseUpdate(updates_pb2.ReleaseUpdateRequest(update_id="u", reason="x"))
    with pytest.raises(UnknownUpdate):
        screened.updates.RejectUpdate(updates_pb2.RejectUpdateRequest(update_id="v", reason="x"))


def test_the_erasure_of_a_site_voids_what_was_set_aside(screened: World, tmp_path: Path) -> None:
    own = screened.push("north", -honest("north", 99), update_id="own")
    other = screened.push("south", -honest("south", 99), update_id="other")
    core = screened.coordinator.core
    context = erasure_context(core, a_config(tmp_path))
    bench = Bench(screened.coordinator, context, receive_upload(core), screened.client.plan)
    erasure, token = bench.removed("north")
    bench.push("south", honest("south", 50))
    bench.passes(erasure, token)
    states = {row.update_id: row.state for row in screened.listed(everything=True)}
    assert states["own"] == updates_pb2.QuarantinedUpdate.VOIDED
    assert states["other"] == updates_pb2.QuarantinedUpdate.WAITING
    assert own.sha256 not in screened.payloads()
    assert other.sha256 in screened.payloads()
    with core.store.read() as uow:
        assert uow.quarantined.get("own").state is QuarantineState.VOIDED


def test_advice_merges_all_the_same(advised: World) -> None:
    before = advised.version
    assert not advised.push("north", -honest("north", 99)).quarantined
    assert advised.version == before + 1
    assert advised.listed() == []


def test_a_restart_remembers_what_was_accepted(tmp_path: Path) -> None:
    for _ in world(tmp_path):
        pass
    with a_coordinator(tmp_path) as (coordinator, client):
        again = World(coordinator, client, tmp_path)
        assert again.push("north", -honest("north", 99)).quarantined
