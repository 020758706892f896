"""Dealing records to sites, and what is planted at the one that will be erased."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.imaging.records import Records
from letheon.simulation.hospitals import Planting, deal, plant_at

CLASSES = ("clear", "spotted", "striped")


def some_records(patients=1200, most=3, seed=0):
    """Whole patients of one to `most` records."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))
    count = len(owner)
    return Records(
        images=rng.random((count, 1, 8, 8), dtype=np.float32),
        labels=rng.choice(3, count, p=[0.5, 0.3, 0.2]).astype(np.int64),
        record_ids=tuple(f"r{row}" for row in range(count)),
        patients=tuple(f"p{patient}" for patient in owner),
        class_names=CLASSES,
    )


def dealt(records, *, seed=0, planting=None, **more):
    told = {"sites": 4, "alpha": 1.0, "target_share": 0.25}
    return deal(
        records, more.pop("natural", None), planting=planting, seed=seed, **{**told, **more}
    )


def parts_of(hospitals):
    parts = [hospitals.calibration, hospitals.audit]
    for held in hospitals.sites.values():
        parts += [held.train, held.control, held.validation, held.test]
    return parts


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(1, 4), planted=st.booleans())
def test_no_patient_is_in_two_places_and_no_record_is_lost(seed, most, planted):
    records = some_records(most=most, seed=seed)
    hospitals = dealt(records, seed=seed, planting=Planting() if planted else None)
    parts = parts_of(hospitals)
    patients = [set(part.groups()) for part in parts]
    assert sum(map(len, patients)) == len(set().union(*patients))
    assert sorted(r for part in parts for r in part.record_ids) == sorted(records.record_ids)
    assert len(hospitals.retained()) == 3
    assert hospitals.target not in hospitals.retained()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_target_gets_about_its_share(share):
    hospitals = dealt(some_records(patients=2000), target_share=share)
    counts = {
        name: sum(map(len, (held.train, held.control, held.validation, held.test)))
        for name, held in hospitals.sites.items()
    }
    assert counts[hospitals.target] / sum(counts.values()) == pytest.approx(share, abs=0.01)


def test_natural_sites_are_kept():
    records = some_records(most=1)
    natural = tuple(f"site-{row % 3 + 1}" for row in range(len(records)))
    hospitals = dealt(records, natural=natural)
    owner = dict(zip(records.record_ids, natural, strict=True))
    for name, held in hospitals.sites.items():
        assert {owner[record] for record in held.train.record_ids} == {name}


def test_an_honest_target_trains_on_its_records_as_they_were():
    records = some_records()
    hospitals = dealt(records)
    images = dict(zip(records.record_ids, records.images, strict=True))
    train = hospitals.sites[hospitals.target].train
    assert all(
        np.array_equal(image, images[record])
        for record, image in zip(train.record_ids, train.images, strict=True)
    )
    assert not hospitals.backdoored
    assert len(hospitals.planted.canaries) == 0


def test_what_is_planted_is_the_share_asked_for():
    records = some_records(patients=1000, most=1)
    changed, planted = plant_at(records, Planting(0.5, 0.25, 0.03), 2, seed=1)
    canaries = set(planted.canaries.record_ids)
    moved = (changed.images != records.images).any(axis=(1, 2, 3))
    wrong = changed.labels != records.labels
    others = np.array(
        [
            r not in canaries and y != 2
            for r, y in zip(records.record_ids, records.labels, strict=True)
        ]
    )
    assert len(canaries) == round(0.03 * len(records))
    assert moved.sum() == round(0.5 * others.sum()) + round(0.25 * others.sum())
    assert (changed.labels[moved] == 2).all()
    assert wrong.sum() == moved.sum() + len(canaries)
    assert not moved[[r in canaries for r in records.record_ids]].any()
    assert (planted.canaries.labels != planted.canary_truth.labels).all()


def test_only_canaries_that_are_trained_on_are_probed():
    hospitals = dealt(some_records(), planting=Planting(canaries=0.2))
    train = set(hospitals.sites[hospitals.target].train.record_ids)
    assert hospitals.planted.canaries.record_ids
    assert set(hospitals.planted.canaries.record_ids) <= train


def test_too_few_records_are_refused():
    with pytest.raises(BadData, match="too few to set calibration images aside"):
        dealt(some_records(patients=100))
