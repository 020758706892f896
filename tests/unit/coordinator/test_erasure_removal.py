"""The removal: what leaves the head, and what stays bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from builders import a_plan, a_vector
from erasure_bench import Bench, a_bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.domain.erasure import ErasureState
from coordinator.services import remove_contribution as removing
from coordinator.services.claim_erasure import claim_erasure
from coordinator.services.prove_ledger import measure_removal
from coordinator.services.remove_contribution import remove_contribution
from letheon.errors import ContributionNotSubtractable, StaleEpoch
from letheon.federation.ledger import EntryKind
from letheon.federation.parameters import digest

FEDBUFF = {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}


@pytest.fixture
def bench(tmp_path: Path, chosen_database: str | None) -> Iterator[Bench]:
    made = a_bench(tmp_path, database_url=chosen_database)
    yield made
    made.close()


def test_the_removal_begins_an_epoch_and_is_recorded(bench: Bench) -> None:
    bench.train("south", "north", "south")
    before = bench.head
    erasure, _ = bench.removed("south")
    removal = bench.erasure(erasure).removal
    assert removal is not None
    assert (removal.epoch, bench.position.epoch) == (1, 1)
    assert (removal.version_before, removal.version_after) == (3, 4)
    assert removal.sha256_before == digest(before)
    assert removal.sha256_after == digest(bench.head)
    assert removal.removed_entries == 2
    assert removal.contribution_norm > 0
    assert bench.erasure(erasure).state is ErasureState.ERASING
    row = bench.rows()[-1]
    assert (row.kind, row.site, row.entry) == (EntryKind.REMOVAL, "south", removal.entry)


def test_repeating_the_removal_changes_nothing(bench: Bench) -> None:
    bench.train("south", "north")
    erasure, token = bench.removed("south")
    rows, head = bench.rows(), bench.head
    again = remove_contribution(erasure, token, bench.context)
    assert again == bench.erasure(erasure).removal
    assert bench.rows() == rows
    assert np.array_equal(bench.head, head)


def test_both_snapshots_stay_readable(bench: Bench) -> None:
    bench.train("south", "north")
    bench.removed("south")
    bench.train("north", "west", seed=9)
    context = bench.context
    for version in (2, 3):
        file = context.files.of(version)
        assert context.blobs.models.path(file.sha256).exists()
    with context.store.read() as uow:
        assert set(uow.models.pins()) >= {2, 3}


def test_deltas_of_the_old_epoch_are_refused_and_new_ones_merged(bench: Bench) -> None:
    bench.train("south", "north")
    bench.removed("south")
    with pytest.raises(StaleEpoch):
        bench.push("north", a_vector(3), base_version=2, epoch=0)
    bench.train("north")
    assert bench.position.version == 4


def test_a_subject_that_never_contributed_can_be_removed(bench: Bench) -> None:
    bench.train("north")
    before = bench.head
    erasure, _ = bench.removed("south")
    removal = bench.erasure(erasure).removal
    assert removal is not None
    assert removal.contribution_norm == 0.0
    assert np.array_equal(bench.head, before)
    assert bench.ledger_holds()


def test_a_restart_after_the_removal_gives_the_same_head(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    bench.train("south", "north", "south")
    bench.removed("south")
    bench.train("west", seed=4)
    head, position = bench.head, bench.position
    bench.close()
    again = a_bench(tmp_path)
    assert np.array_equal(again.head, head)
    assert again.position == position
    assert again.ledger_holds()
    again.close()


def test_a_strategy_that_is_not_linear_cannot_be_subtracted_from(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.train("south")
    erasure = bench.request("south")
    _, claim = claim_erasure(erasure.id, "c1", bench.context)
    monkeypatch.setattr(type(bench.context.strategy), "linear", False)
    with pytest.raises(ContributionNotSubtractable):
        remove_contribution(erasure.id, claim.token, bench.context)
    assert bench.position.epoch == 0


def test_a_method_that_only_suppresses_leaves_the_head_and_begins_an_epoch(bench: Bench) -> None:
    bench.train("south", "north")
    head = bench.head
    erasure, _ = bench.removed("south", method="afu_ic_rebased")
    removal = bench.erasure(erasure).removal
    assert removal is not None
    assert not removal.subtracted
    assert (removal.version_before, removal.version_after) == (2, 2)
    assert np.array_equal(bench.head, head)
    assert bench.position.epoch == 1
    assert bench.ledger_holds()


def test_two_erasures_each_have_their_own_removal(bench: Bench) -> None:
    bench.train("south", "north", "west", "south", "west")
    first, _ = bench.removed("south", "r1")
    second, _ = bench.removed("west", "r2")
    removals = [bench.erasure(one).removal for one in (first, second)]
    assert [r.epoch for r in removals if r] == [1, 2]
    for erasure in (first, second):
        error = measure_removal(bench.erasure(erasure), bench.context)
        assert error is not None
        assert error.relative <= 1e-5
    assert bench.ledger_holds()


def test_buffered_deltas_of_the_others_are_flushed_by_the_removal(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, plan=a_plan(strategy=FEDBUFF))
    bench.train("south", "north", "west")  # flushed
    bench.train("north", "south", seed=30)  # wait
    erasure, _ = bench.removed("south")
    row = bench.rows()[-1]
    assert [number for number, _ in row.details["flushed"]] == [5]
    removal = bench.erasure(erasure).removal
    assert removal is not None
    assert removal.voided_entries == 1
    assert removal.removed_entries == 1
    error = measure_removal(bench.erasure(erasure), bench.context)
    assert error is not None
    assert error.relative <= 1e-5
    assert bench.ledger_holds()
    bench.close()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    story=st.lists(st.sampled_from(["north", "south", "west"]), min_size=1, max_size=12),
    buffered=st.booleans(),
)
def test_the_head_without_the_subject_equals_the_replay_that_never_saw_it(
    story: list[str], buffered: bool
) -> None:
    with TemporaryDirectory() as folder:
        strategy = FEDBUFF if buffered else {"plugin": "fedasync"}
        bench = a_bench(Path(folder), plan=a_plan(strategy=strategy))
        for seed, site in enumerate(story):
            bench.push(site, a_vector(seed, scale=1.0))
        erasure, _ = bench.removed("south")
        error = measure_removal(bench.erasure(erasure), bench.context)
        assert error is not None
        assert error.relative <= 1e-5
        assert bench.ledger_holds()
        bench.close()


def test_a_crash_before_the_snapshots_are_written_is_made_good_by_repeating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = a_bench(tmp_path)
    bench.train("south", "north", "south")
    before = bench.head

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(removing, "keep_snapshots", crash)
        with pytest.raises(KeyboardInterrupt):
            bench.removed("south")
    bench.close()
    again = a_bench(tmp_path)
    [erasure] = again.rows()[-1:]
    _, claim = claim_erasure(erasure.details["erasure"], "c1", again.context)
    removal = remove_contribution(erasure.details["erasure"], claim.token, again.context)
    for version, sha256 in ((3, removal.sha256_before), (4, removal.sha256_after)):
        assert again.context.files.of(version).sha256 == sha256
    assert removal.sha256_before == digest(before)
    assert removal.sha256_after == digest(again.head)
    assert again.ledger_holds()
    again.close()
