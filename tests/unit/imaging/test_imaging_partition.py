from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.imaging.partition import dirichlet_partition, set_aside
from letheon.imaging.records import Records


def blank(patients: list[str] | None, count: int) -> Records:
    return Records(
        images=np.zeros((count, 1, 1, 1), np.float32),
        labels=np.zeros(count, np.int64),
        record_ids=tuple(f"r{row}" for row in range(count)),
        patients=None if patients is None else tuple(patients),
        class_names=("a", "b"),
    )


labels_of_sites = st.integers(1, 6).flatmap(
    lambda sites: st.tuples(
        st.just(sites), st.lists(st.integers(0, 4), min_size=sites, max_size=120)
    )
)


@given(labels_of_sites, st.floats(0.01, 100), st.integers(0, 99), st.floats(0, 1))
def test_a_deal_gives_every_record_to_exactly_one_site_and_each_site_its_minimum(
    dealt: tuple[int, list[int]], alpha: float, seed: int, minimum_share: float
) -> None:
    sites, labels = dealt
    parts = dirichlet_partition(labels, sites, alpha, seed, minimum_share)
    assert len(parts) == sites
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert min(map(len, parts)) >= max(1, int(minimum_share * len(labels) / sites))
    assert all((np.diff(part) > 0).all() for part in parts)


@given(st.lists(st.integers(0, 7), min_size=30, max_size=90), st.integers(0, 9))
def test_patients_are_dealt_whole(groups: list[int], seed: int) -> None:
    names = [f"p{group}" for group in groups]
    sites = min(3, len(set(names)))
    parts = dirichlet_partition([0] * len(names), sites, 0.5, seed, groups=names)
    owners = [{names[row] for row in part} for part in parts]
    assert all(owners)
    assert sum(map(len, owners)) == len(set(names))


def test_the_same_seed_deals_the_same() -> None:
    labels = np.arange(200) % 4
    first, again = (dirichlet_partition(labels, 5, 0.5, 3) for _ in range(2))
    other = dirichlet_partition(labels, 5, 0.5, 4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_small_alpha_skews_labels_more_than_a_large_one() -> None:
    labels = np.arange(2000) % 4

    def skew(alpha: float) -> float:
        parts = dirichlet_partition(labels, 5, alpha, 0)
        mixes = [np.bincount(labels[part], minlength=4) / len(part) for part in parts]
        return float(np.std(mixes))

    assert skew(0.1) > 2 * skew(100.0)


def test_fewer_records_than_sites_are_refused() -> None:
    with pytest.raises(BadData, match="2 records or patients"):
        dirichlet_partition([0, 1], 3, 1.0, 0)


@pytest.mark.parametrize(("sites", "alpha", "share"), [(0, 1.0, 0.4), (2, 0.0, 0.4), (2, 1.0, 2.0)])
def test_impossible_deals_are_refused(sites: int, alpha: float, share: float) -> None:
    with pytest.raises(ValueError, match="sites"):
        dirichlet_partition([0, 1, 0, 1], sites, alpha, 0, share)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=80),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
    st.integers(0, 1000),
)
def test_what_is_set_aside_shares_no_patient_with_training(
    groups: list[int], control: float, validation: float, seed: int
) -> None:
    patients = [f"p{group}" for group in groups]
    aside = set_aside(
        blank(patients, len(patients)), control=control, validation=validation, seed=seed
    )
    parts = (aside.train, aside.control, aside.validation)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(patients)))
    seen = [{patients[row] for row in part} for part in parts]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert len(aside.train) > 0
    if len(set(patients)) > 2:
        assert (len(aside.control) > 0) == (control > 0)
        assert (len(aside.validation) > 0) == (validation > 0)


def test_about_the_asked_shares_are_set_aside() -> None:
    aside = set_aside(blank(None, 3000), control=0.1, validation=0.2, seed=5)
    assert len(aside.control) / 3000 == pytest.approx(0.1, abs=0.02)
    assert len(aside.validation) / 3000 == pytest.approx(0.2, abs=0.02)


def test_a_record_keeps_its_place_when_the_site_gains_records() -> None:
    before = set_aside(blank(None, 300), seed=7)
    after = set_aside(blank(None, 500), seed=7)
    assert set(before.control.tolist()) == {row for row in after.control.tolist() if row < 300}
    assert set(before.train.tolist()) == {row for row in after.train.tolist() if row < 300}


def test_the_place_hangs_on_the_seed_and_the_patient_not_the_order() -> None:
    records = blank([f"p{row // 3}" for row in range(300)], 300)
    turned = records.select(np.arange(300)[::-1])
    first, second = set_aside(records, seed=1), set_aside(turned, seed=1)
    assert {records.record_ids[row] for row in first.control} == {
        turned.record_ids[row] for row in second.control
    }
    other = set_aside(records, seed=2)
    assert not np.array_equal(first.control, other.control)


def test_nothing_set_aside_leaves_everything_to_train_on() -> None:
    aside = set_aside(blank(None, 9), control=0, validation=0, seed=0)
    assert len(aside.train) == 9


def test_setting_everything_aside_is_refused() -> None:
    with pytest.raises(ValueError, match="something to train on"):
        set_aside(replace(blank(None, 9)), control=0.5, validation=0.5, seed=0)
