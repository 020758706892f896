"""Payloads give way to proven anchors; head, contributions and erasures stay exact."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import a_core, a_plan, a_vector, enrol, take_delta
from erasure_bench import a_bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from retention_builders import (
    FEDBUFF,
    KEEP,
    SITES,
    assert_same,
    compactions,
    derived,
    retain,
    retention,
    train,
    train_and_retain,
    verdict,
)

from coordinator.core import Core
from coordinator.services import compact_payloads, keep_derived, place_anchor
from coordinator.services.rebuild_model import Rebuild, RebuildModel, Rebuilt
from coordinator.services.replayable import oldest_replayable
from letheon.errors import CheckpointBehind, LedgerBroken, VersionCompacted
from letheon.federation.ledger import EntryKind


def rebuilt(core: Core, version: int) -> Rebuilt:
    rebuild = RebuildModel(
        core.store, core.blobs, core.live, core.clock, size=core.plan.parameters.size
    )
    asked = Rebuild(f"r{version}", version, frozenset(), "auditor", "test")
    *_, made = rebuild(asked)
    assert isinstance(made, Rebuilt)
    return made


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


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
        version = uow.entries.get(oldest).version
    with pytest.raises(VersionCompacted, match="models/1 cannot be rebuilt"):
        rebuilt(core, 1)
    assert rebuilt(core, version).version == version


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
