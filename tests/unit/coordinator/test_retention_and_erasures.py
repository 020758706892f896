"""Erasures after payloads were given up, and retention beside and after erasures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan
from erasure_bench import Bench, a_bench
from erasure_builders import a_certificate
from retention_builders import FEDBUFF, compactions, retain, train, train_and_retain

from coordinator.core import Core
from coordinator.services.conclude_erasure import Certified, conclude_erasure
from coordinator.services.replayable import oldest_replayable
from letheon.servicekit.signing import SigningKey


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = a_bench(tmp_path)
    yield made
    made.close()


def certify(bench: Bench, erasure: str, token: int, directory: Path) -> None:
    key = SigningKey.load_or_create(directory / "key.pem")
    end = Certified(a_certificate(f"erasures/{erasure}", key))
    conclude_erasure(erasure, token, end, bench.context)


@pytest.mark.parametrize("strategy", [{}, FEDBUFF], ids=["fedasync", "fedbuff"])
def test_an_erasure_after_compaction_is_proven_from_the_anchor_that_held_the_subject(
    tmp_path: Path, strategy: dict[str, Any]
) -> None:
    bench = a_bench(tmp_path, plan=a_plan(**strategy))
    core = bench.coordinator.core
    train_and_retain(core, 14)
    assert compactions(core)
    with core.store.read() as uow:
        anchor = oldest_replayable(uow)
        anchors = [c.entry for c in uow.checkpoints.all() if c.is_anchor]
        held = {uow.entries.get(a).details["contributions"]["south"] for a in anchors}
    assert bench.ledger_holds()
    erasure = bench.removed("south")
    train(core, 6, 500, ("north", "west"))
    evidence = bench.passes(*erasure)
    assert evidence["removal_relative_error"] is not None
    assert evidence["removal_relative_error"] <= 1e-5
    assert evidence["counterfactual_start_held_subject"]
    assert evidence["counterfactual_from_entry"] >= anchor
    certify(bench, *erasure, tmp_path)
    assert bench.ledger_holds()
    with core.store.read() as uow:
        own = set(uow.entries.payloads(through=core.live.position.entry, site="south"))
        anchors = [c.entry for c in uow.checkpoints.all() if c.is_anchor]
        kept = {s for a in anchors for s in uow.entries.get(a).details["contributions"].items()}
    assert not own & set(core.blobs.payloads.all())
    assert anchors == [evidence["anchor_entry"]]
    assert "south" not in dict(kept)
    assert not held & set(core.blobs.contributions.all())
    train_and_retain_without(core, 12, ("north", "west"))
    assert bench.ledger_holds()
    bench.close()
    again = a_bench(tmp_path)
    assert np.array_equal(again.head, core.live.snapshot()[1])
    assert again.ledger_holds()
    again.close()


def train_and_retain_without(core: Core, count: int, sites: tuple[str, ...]) -> None:
    before = compactions(core)
    for number in range(count):
        train(core, 1, 700 + number, (sites[number % len(sites)],))
        retain(core)
    assert len(compactions(core)) > len(before)


def test_an_open_erasure_keeps_what_its_proof_replays(bench: Bench, tmp_path: Path) -> None:
    core = bench.coordinator.core
    train(core, 5)
    erasure = bench.removed("south")
    train_and_retain_without_compaction(core, ("north", "west"))
    evidence = bench.passes(*erasure)
    assert evidence["removal_relative_error"] <= 1e-5
    certify(bench, *erasure, tmp_path)
    train_and_retain_without(core, 8, ("north", "west"))
    assert bench.ledger_holds()


def train_and_retain_without_compaction(core: Core, sites: tuple[str, ...]) -> None:
    for number in range(12):
        train(core, 1, 900 + number, (sites[number % len(sites)],))
        retain(core)
    assert compactions(core) == []


def test_the_second_of_two_erasures_is_proven_after_the_first_and_compaction(
    bench: Bench, tmp_path: Path
) -> None:
    core = bench.coordinator.core
    train_and_retain(core, 10)
    first = bench.removed("south", "r1")
    train(core, 2, 400, ("north", "west"))
    bench.passes(*first)
    certify(bench, *first, tmp_path)
    train_and_retain_without(core, 10, ("north", "west"))
    second = bench.removed("west", "r2")
    train(core, 3, 800, ("north",))
    assert bench.passes(*second)["removal_relative_error"] <= 1e-5
    certify(bench, *second, tmp_path)
    assert bench.ledger_holds()


def test_an_anchor_that_a_sites_erasure_would_fall_back_to_outlives_compaction(
    tmp_path: Path,
) -> None:
    bench = a_bench(tmp_path, plan=a_plan(serving={"policy": "serve-fallback"}))
    core = bench.coordinator.core
    for number in range(6):
        train(core, 1, number, ("north",))
        retain(core)
    train(core, 1, 50, ("west",))
    first = bench.site("west").first_version
    assert first is not None
    for number in range(20):
        train(core, 1, 60 + number, ("north",))
        retain(core)
    with core.store.read() as uow:
        versions = [c.version for c in uow.checkpoints.all() if c.is_anchor]
        assert uow.entries.get(oldest_replayable(uow)).version > first
    assert min(versions) < first
    assert len(versions) <= 4
    assert bench.ledger_holds()
    bench.close()
