"""Payloads give way to proven anchors; head, contributions and erasures stay exact."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_config, a_core, a_plan, a_vector, enrol, take_delta
from erasure_bench import Bench, a_bench
from erasure_builders import a_certificate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.core import Core
from coordinator.domain.model import Compaction
from coordinator.retention_wiring import Retention
from coordinator.services import compact_payloads, keep_derived, place_anchor
from coordinator.services.conclude_erasure import Certified, conclude_erasure
from coordinator.services.replay_start import contribution_at
from coordinator.services.replayable import check_replayable, oldest_replayable
from coordinator.services.verify_ledger import Verdict
from letheon.errors import CheckpointBehind, LedgerBroken, VersionCompacted
from letheon.federation.ledger import EntryKind
from letheon.federation.parameters import Vector
from letheon.servicekit.signing import SigningKey

FEDBUFF = {"strategy": {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}}
SITES = ("north", "south", "west")
KEEP = 4


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


def retention(core: Core, keep_entries: int = KEEP) -> Retention:
    config = a_config(Path("unused"), retention={"keep_entries": keep_entries})
    return Retention(core, config)


def retain(core: Core, keep_entries: int = KEEP) -> None:
    """One pass, as the background thread makes it; what goes wrong is raised."""
    made = retention(core, keep_entries)
    made.place_anchor()
    made.compact()


def train(core: Core, count: int, seed: int = 0, sites: tuple[str, ...] = SITES) -> None:
    for number in range(count):
        take_delta(core, sites[number % len(sites)], a_vector(seed + number))


def train_and_retain(core: Core, count: int, seed: int = 0, keep_entries: int = KEEP) -> None:
    for number in range(count):
        train(core, 1, seed + number, (SITES[number % 3],))
        retain(core, keep_entries)


def verdict(core: Core) -> Verdict:
    last = list(core.verify_ledger())[-1]
    assert isinstance(last, Verdict)
    return last


def derived(core: Core) -> dict[str, Vector | None]:
    """Head and contributions."""
    entry = core.live.position.entry
    sums = {s: contribution_at(core.store, core.blobs, s, through=entry) for s in SITES}
    return {"head": core.live.snapshot()[1], **sums}


def assert_same(found: dict[str, Vector | None], due: dict[str, Vector | None]) -> None:
    for name, vector in due.items():
        other = found[name]
        if vector is None or other is None:
            assert vector is other
        else:
            assert np.array_equal(vector.view(np.uint32), other.view(np.uint32)), name


def compactions(core: Core) -> list[Compaction]:
    with core.store.read() as uow:
        return uow.compactions.all()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("delta"), st.sampled_from(SITES)),
        st.tuples(st.sampled_from(["fold", "checkpoint", "retain", "restart"]), st.just("")),
    ),
    min_size=8,
    max_size=40,
)


@pytest.mark.parametrize("strategy", [{}, FEDBUFF], ids=["fedasync", "fedbuff"])
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_with_and_without_retention_head_and_contributions_are_the_same_bits(
    strategy: dict[str, Any], steps: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        kept = a_core(Path(one), plan=a_plan(**strategy))
        twin = a_core(Path(other), plan=a_plan(**strategy))
        enrol(kept, *SITES)
        enrol(twin, *SITES)
        for number, (step, site) in enumerate(steps):
            match step:
                case "delta":
                    for core in (kept, twin):
                        # Payloads repeat, so that late rows name bytes of early ones.
                        take_delta(core, site, a_vector(number % 7), base_version=0)
                case "fold":
                    replace(kept.derived, fold_after=0).fold_if_due()
                case "checkpoint":
                    kept.derived.checkpoint()
                case "retain":
                    retain(kept, 3)
                case _:
                    kept = a_core(Path(one))
        assert_same(derived(kept), derived(twin))
        assert verdict(kept).holds
        assert_same(derived(a_core(Path(one))), derived(twin))


def test_the_disk_holds_the_payloads_of_twice_the_kept_rows_at_most(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, *SITES)
    most = 0
    for number in range(60):
        train(core, 1, number)
        core.derived.checkpoint_if_due()
        retain(core)
        most = max(most, len(core.blobs.payloads.all()))
        with core.store.read() as uow:
            newest = uow.entries.newest()
            assert newest is not None
            for entry in range(max(0, newest.entry - KEEP + 1), newest.entry + 1):
                sha256 = uow.entries.get(entry).payload_sha256
                assert sha256 is None or core.blobs.payloads.path(sha256).exists()
    assert most <= 2 * KEEP + 1
    assert len(core.blobs.checkpoints.all()) <= 2 + 2  # two anchors, two plain ones
    # What anchors keep, and what is stored: three sites each.
    assert len(core.blobs.contributions.all()) <= 3 * 3
    assert all(compaction.finished for compaction in compactions(core))
    assert verdict(core).holds


def test_a_buffered_delta_that_waits_across_an_anchor_is_kept_and_merged(tmp_path: Path) -> None:
    core = a_core(tmp_path, plan=a_plan(strategy=FEDBUFF["strategy"]))
    enrol(core, *SITES)
    train(core, 4)  # three are merged, one waits
    assert retention(core, 3).place_anchor() is not None
    assert retention(core, 1).compact() is None  # no row came after the anchor
    train(core, 1, 50)
    assert retention(core, 1).compact() is not None
    train(core, 3, 60)
    assert_same({"head": core.live.snapshot()[1]}, {"head": a_core(tmp_path).live.snapshot()[1]})
    assert verdict(core).holds


def test_nothing_is_given_up_when_the_replay_is_not_the_head(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, *SITES)
    train(core, 6)
    with core.live.exclusive() as head:
        head.weights[0] += 1
    before = core.blobs.payloads.all()
    with pytest.raises(LedgerBroken, match="differs from the head"):
        retention(core).place_anchor()
    assert retention(core).compact() is None
    assert core.blobs.payloads.all() == before


def test_a_version_from_before_the_oldest_anchor_is_refused_with_a_sentence(
    tmp_path: Path,
) -> None:
    core = a_core(tmp_path)
    enrol(core, *SITES)
    train_and_retain(core, 12)
    with core.store.read() as uow:
        oldest = oldest_replayable(uow)
        assert 0 < oldest < core.live.position.entry
        with pytest.raises(VersionCompacted, match="models/1 cannot be rebuilt"):
            check_replayable(uow, 1)
        check_replayable(uow, uow.entries.get(oldest).version)


def test_a_delta_between_proof_and_record_is_proven_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = a_core(tmp_path)
    enrol(core, *SITES)
    train(core, 6)
    meanwhile = iter(range(3))

    def one_more(point: str) -> None:
        if point == "anchor.put" and next(meanwhile, None) is not None:
            train(core, 1, 100 + core.live.position.entry)

    monkeypatch.setattr(place_anchor, "reach", one_more)
    place = retention(core).place_anchor
    row = place()
    assert row is not None
    assert row.entry == 6 + 3 + 1
    assert verdict(core).holds
    place()
    with core.store.read() as uow:
        named = {checkpoint.sha256 for checkpoint in uow.checkpoints.all()}
    assert set(core.blobs.checkpoints.all()) == named  # what the vain tries wrote is gone


POINTS: dict[str, Any] = {
    "checkpoint.put": keep_derived,
    "checkpoint.recorded": keep_derived,
    "fold.put": keep_derived,
    "fold.recorded": keep_derived,
    "anchor.put": place_anchor,
    "anchor.recorded": place_anchor,
    "compaction.decided": compact_payloads,
    "compaction.files_gone": compact_payloads,
}


@pytest.mark.parametrize("strategy", [{}, FEDBUFF], ids=["fedasync", "fedbuff"])
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_loses_no_term_and_folds_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, strategy: dict[str, Any]
) -> None:
    killed = a_bench(tmp_path / "killed", plan=a_plan(**strategy))
    twin = a_bench(tmp_path / "twin", plan=a_plan(**strategy))
    for bench in (killed, twin):
        for seed in range(0, 60, 10):
            bench.train(*SITES, seed=seed)

    def work(core: Core) -> None:
        replace(core.derived, fold_after=1).fold_if_due()
        core.derived.checkpoint()
        retain(core, 3)
        train(core, 4, 200)
        retain(core, 3)

    def die(reached: str) -> None:
        if reached == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(POINTS[point], "reach", die)
        with pytest.raises(Killed):
            work(killed.coordinator.core)
    accepted = killed.position.entry - twin.position.entry
    killed.close()
    again = a_bench(tmp_path / "killed")
    core = again.coordinator.core
    if accepted > 1:  # the later deltas, and an anchor
        train(twin.coordinator.core, 4, 200)
    assert_same(derived(core), derived(twin.coordinator.core))
    assert verdict(core).holds
    train_and_retain(core, 8, 300, 3)
    for number in range(8):
        train(twin.coordinator.core, 1, 300 + number, (SITES[number % 3],))
    assert_same(derived(core), derived(twin.coordinator.core))
    assert verdict(core).holds
    assert all(compaction.finished for compaction in compactions(core))
    with core.store.read() as uow:
        named = {checkpoint.sha256 for checkpoint in uow.checkpoints.all()}
    assert set(core.blobs.checkpoints.all()) == named


def test_deltas_are_told_to_come_back_while_the_newest_checkpoint_is_too_old(
    tmp_path: Path,
) -> None:
    core = a_core(tmp_path)
    enrol(core, "north")
    bounded = replace(core.derived, recovery_entries=3)
    for number in range(3):
        bounded.check_recoverable()
        train(core, 1, number, ("north",))
    with pytest.raises(CheckpointBehind, match="3 rows ahead") as raised:
        bounded.check_recoverable()
    assert raised.value.retry_after_s > 0
    assert bounded.checkpoint_if_due() is not None
    bounded.check_recoverable()


def test_checking_recoverability_asks_the_database_once(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    core.derived.check_recoverable()
    core.store.close()  # type: ignore[attr-defined]

    class NoStore:
        def read(self) -> None:
            raise AssertionError("asked the database")

    replace(core.derived, store=NoStore()).check_recoverable()  # type: ignore[arg-type]


def test_a_recovery_replays_what_came_after_the_newest_checkpoint_and_says_so(
    tmp_path: Path,
) -> None:
    core = a_core(tmp_path)
    enrol(core, *SITES)
    train(core, 5)
    core.derived.checkpoint()
    train(core, 3, 10)
    again = a_core(tmp_path)
    assert again.live.recovery.entries == 3
    assert again.registry.get_sample_value("letheon_recovery_entries") == 3


# --- erasures ---------------------------------------------------------------------------------


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


def test_a_retention_that_is_told_to_stop_breaks_its_proof_off(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, *SITES)
    train(core, 6)
    made = retention(core)
    made.place_anchor.stop()
    assert made.place_anchor() is None
    with core.store.read() as uow:
        assert uow.entries.newest(EntryKind.ANCHOR) is None


def test_bytes_that_come_again_while_they_are_given_up_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = a_core(tmp_path)
    enrol(core, *SITES)
    train(core, 5)
    made = retention(core, 3)
    assert made.place_anchor() is not None
    train(core, 3, 30)
    again: Callable[[], object] = lambda: take_delta(core, "west", a_vector(0))  # noqa: E731

    def resend(point: str) -> None:
        if point == "compaction.decided":
            again()

    monkeypatch.setattr(compact_payloads, "reach", resend)
    assert made.compact() is not None
    assert verdict(core).holds
    assert_same({"head": core.live.snapshot()[1]}, {"head": a_core(tmp_path).live.snapshot()[1]})
