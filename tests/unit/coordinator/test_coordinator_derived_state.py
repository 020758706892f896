"""Head, checkpoints and contributions are derived: rebuilt, they are the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_core, a_federation, a_plan, a_vector, enrol, take_delta

from coordinator.core import Core
from coordinator.domain.ledger_rows import follow
from coordinator.domain.upload import Outcome
from coordinator.ports import UnitOfWork
from coordinator.services.replay_start import (
    BEFORE_FIRST,
    contribution_at,
    entries_after,
    payload_reader,
)
from coordinator.services.verify_ledger import Verdict
from letheon.errors import BadConfig, StorageUnavailable
from letheon.federation.ledger import EntryKind
from letheon.federation.parameters import Vector
from letheon.federation.replay import ReplayState, replay

FEDBUFF = {"strategy": {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}}
FEDAVG = {"strategy": {"plugin": "fedavg"}}


def head_of(core: Core) -> Vector:
    return core.live.snapshot()[1]


def replayed(core: Core) -> ReplayState:
    start = ReplayState.before_first(core.plan.parameters.size)
    rows = entries_after(core.store, BEFORE_FIRST)
    return replay(start, rows, payload_reader(core.blobs))


def verdict(core: Core) -> Verdict:
    last = list(core.verify_ledger())[-1]
    assert isinstance(last, Verdict)
    return last


def train(core: Core, count: int, sites: tuple[str, ...] = ("north", "south")) -> None:
    for number in range(count):
        base = max(0, core.live.position.version - number % 3)
        take_delta(core, sites[number % len(sites)], a_vector(number), base_version=base)


@pytest.mark.parametrize("strategy", [{}, FEDBUFF, FEDAVG], ids=["fedasync", "fedbuff", "fedavg"])
def test_the_head_is_rebuilt_bit_for_bit_from_checkpoint_and_ledger(
    tmp_path: Path, strategy: dict[str, Any]
) -> None:
    core = a_core(tmp_path, plan=a_plan(**strategy))
    enrol(core, "north", "south")
    train(core, 7)
    core.derived.checkpoint()
    train(core, 7)
    again = a_core(tmp_path)
    assert np.array_equal(head_of(core), head_of(again))
    assert core.live.position == again.live.position
    assert np.array_equal(head_of(core), replayed(core).head)
    assert verdict(again).holds
    # A buffer that was half full goes on where it was.
    for each in (core, again):
        with each.store.read() as uow:
            assert [d.entry for d in uow.buffered.waiting()] == sorted(replayed(each).buffered)


@pytest.mark.parametrize("strategy", [{}, FEDBUFF], ids=["fedasync", "fedbuff"])
def test_a_folded_contribution_is_the_replayed_one(
    tmp_path: Path, strategy: dict[str, Any]
) -> None:
    core = a_core(tmp_path, plan=a_plan(**strategy))
    enrol(core, "north", "south", "idle")
    train(core, 6)
    core.derived.fold("north")
    train(core, 7)
    expected = replayed(core).contributions
    entry = core.live.position.entry
    for site in ("north", "south"):
        found = contribution_at(core.store, core.blobs, site, through=entry)
        assert found is not None
        assert np.array_equal(found, expected[site])
    assert contribution_at(core.store, core.blobs, "idle", through=entry) is None
    folded = core.derived.fold("north")
    assert folded.sha256 is not None
    assert core.blobs.contributions.all() == [folded.sha256]  # the older one is gone
    assert core.derived.fold("north") == folded


def test_sites_are_folded_once_enough_deltas_wait(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    derived = replace(core.derived, fold_after=3)
    enrol(core, "north", "south")
    train(core, 3, ("south",))
    train(core, 4, ("north",))
    assert derived.fold_if_due() == ["north"]
    assert derived.fold_if_due() == []


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, "north")
    train(core, 3, ("north",))
    checkpoint = core.derived.checkpoint()
    train(core, 2, ("north",))
    path = core.blobs.checkpoints.path(checkpoint.sha256)
    damaged = bytearray(path.read_bytes())
    damaged[5] ^= 1
    path.write_bytes(damaged)
    assert np.array_equal(head_of(a_core(tmp_path)), head_of(core))


def test_old_checkpoints_are_dropped_and_one_is_made_only_when_due(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    derived = replace(core.derived, checkpoint_every=2, keep_checkpoints=2)
    enrol(core, "north")
    made = []
    for number in range(8):
        take_delta(core, "north", a_vector(number))
        if (checkpoint := derived.checkpoint_if_due()) is not None:
            made.append(checkpoint)
    assert [c.entry for c in made] == [2, 4, 6, 8]
    with core.store.read() as uow:
        assert [c.entry for c in uow.checkpoints.all()] == [8, 6]
    assert core.blobs.checkpoints.all() == sorted(c.sha256 for c in made[-2:])


def test_an_interrupted_publish_leaves_nothing_wrong(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, "north")
    take_delta(core, "north", a_vector(1))
    before = head_of(core)
    # What a kill between the rename of a payload and the commit, or in the middle of writing
    # a checkpoint or a model, leaves on the disk.
    orphan = core.blobs.payloads.put(b"accepted by nobody")
    half = core.blobs.checkpoints.path("0" * 64).with_suffix(".new-1")
    half.write_bytes(b"half")
    core.blobs.models.put(b"a model without a row")
    again = a_core(tmp_path)
    assert np.array_equal(head_of(again), before)
    assert not again.blobs.payloads.path(orphan).exists()
    assert not half.exists()
    assert verdict(again).holds


def test_a_commit_of_unknown_outcome_makes_the_next_writer_recover(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, "north")
    take_delta(core, "north", a_vector(1))

    class CommitsAndLosesTheAnswer:
        def __init__(self, uow: UnitOfWork) -> None:
            self.entries = uow.entries
            self._uow = uow

        def commit(self) -> None:
            self._uow.commit()
            raise StorageUnavailable("the connection is gone")

    with core.store.read() as uow:
        row = uow.entries.get(1)
    with core.live.exclusive() as head, core.store.write() as uow:
        entry = follow(
            head.newest,
            EntryKind.DELTA,
            at=row.at,
            site="north",
            coefficient=0.5,
            payload_sha256=row.payload_sha256,
            payload_bytes=row.payload_bytes,
            encoding=row.encoding,
        )
        uow.entries.add(entry)
        with pytest.raises(StorageUnavailable):
            head.commit(CommitsAndLosesTheAnswer(uow), [entry])  # type: ignore[arg-type]
    assert take_delta(core, "north", a_vector(2)).version == 3
    assert np.array_equal(head_of(core), replayed(core).head)


def test_the_delta_that_fills_the_buffer_flushes_it_in_its_own_transaction(
    tmp_path: Path,
) -> None:
    core = a_core(tmp_path, plan=a_plan(**FEDBUFF))
    enrol(core, "north", "south")
    receipts = [take_delta(core, s, a_vector(i)) for i, s in enumerate(["north", "south", "north"])]
    assert {r.outcome for r in receipts} == {Outcome.BUFFERED}
    assert [r.version for r in receipts] == [0, 0, 0]
    with core.store.read() as uow:
        kinds = [row.kind for row in uow.entries.page(0, 10)]
        assert uow.buffered.waiting() == []
        assert uow.sites.get("north").first_version == 1
        assert uow.federation.counters() == {"buffered": 3}
    assert kinds == [EntryKind.INITIAL, *[EntryKind.BUFFERED] * 3, EntryKind.FLUSH]
    assert core.live.position.version == 1


def test_verification_names_the_row_that_was_altered(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, "north")
    train(core, 3, ("north",))
    with core.store.read() as uow:
        payload = uow.entries.get(3).payload_sha256
    assert payload is not None
    path = core.blobs.payloads.path(payload)
    damaged = bytearray(path.read_bytes())
    damaged[0] ^= 1
    path.write_bytes(damaged)
    found = verdict(core)
    assert (found.holds, found.first_bad_entry) == (False, 3)
    assert found.sha256_head


def test_another_plan_later_is_refused_with_a_sentence(tmp_path: Path) -> None:
    a_core(tmp_path)
    a_federation(tmp_path / "federation", a_plan(name="another"))
    with pytest.raises(BadConfig, match="the database holds plan"):
        a_core(tmp_path)


def test_without_a_plan_the_start_is_refused_with_a_sentence(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    (tmp_path / "federation" / "initial.safetensors").unlink()
    with pytest.raises(BadConfig, match="initial weights"):
        a_core(tmp_path)
