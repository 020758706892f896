import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from letheon.errors import BadData
from letheon.imaging.backdoor import BlendedTrigger, Trigger, chosen_rows, hits, plant, success
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise
from letheon.imaging.records import Records
from letheon.imaging.sources.synthetic import SyntheticSource


@pytest.fixture(scope="module")
def records() -> Records:
    return SyntheticSource(120, 3, 3, 16, 16).load()


@given(
    images=arrays(np.float32, (2, 3, 5, 4), elements=st.floats(0, 1, width=32)),
    strength=st.floats(0.01, 1.0),
    seed=st.integers(0, 1000),
)
def test_a_blended_image_stays_in_its_range(images, strength: float, seed: int) -> None:
    blended = BlendedTrigger(strength, seed).stamp(images)
    assert blended.dtype == np.float32
    assert blended.shape == images.shape
    assert blended.min() >= 0
    assert blended.max() <= 1
    assert np.abs(blended - images).max() <= strength + 1e-6


def test_the_pattern_is_the_same_on_every_image_and_channel(records: Records) -> None:
    black = np.zeros((2, 3, 16, 16), np.float32)
    pattern = BlendedTrigger(1.0, seed=3).stamp(black)
    assert (pattern == pattern[0, 0]).all()
    assert (pattern.min(), pattern.max()) == (0, 1)
    half = BlendedTrigger(0.5, seed=3).stamp(records.images[:2])
    np.testing.assert_allclose(half, (records.images[:2] + pattern) / 2, atol=1e-6)


def test_another_seed_is_another_pattern(records: Records) -> None:
    images = records.images[:1]
    first, second = BlendedTrigger(seed=1).stamp(images), BlendedTrigger(seed=2).stamp(images)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, BlendedTrigger(seed=1).stamp(images))


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"strength": 1.1}, {"cells": 1}])
def test_impossible_blends_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="blended trigger"):
        BlendedTrigger(**wrong)


def test_two_marks_go_on_disjoint_rows(records: Records) -> None:
    rows = chosen_rows(records, 2, 0.6, 4)
    first, second = rows[::2], rows[1::2]
    square, blended = Trigger(), BlendedTrigger(seed=9)
    planted = plant(records, square, 2, rows=first)
    planted = plant(planted, blended, 2, rows=second)
    assert (planted.labels[rows] == 2).all()
    np.testing.assert_array_equal(planted.images[first], square.stamp(records.images[first]))
    np.testing.assert_array_equal(planted.images[second], blended.stamp(records.images[second]))
    kept = np.setdiff1d(np.arange(len(records)), rows)
    assert planted.select(kept) == records.select(kept)


def test_a_row_is_not_planted_twice(records: Records) -> None:
    rows = chosen_rows(records, 2, 0.1, 4)
    planted = plant(records, Trigger(), 2, rows=rows)
    with pytest.raises(BadData, match="already of the target class"):
        plant(planted, BlendedTrigger(), 2, rows=rows)
    with pytest.raises(BadData, match="distinct"):
        plant(records, Trigger(), 2, rows=np.repeat(rows, 2))
    with pytest.raises(BadData, match="distinct"):
        plant(records, Trigger(), 2, rows=np.array([len(records)]))


def test_a_network_learns_both_marks_and_a_clean_one_neither() -> None:
    train = SyntheticSource(600, 2, 1, 20, 20, seed=1).load()
    test = SyntheticSource(200, 2, 1, 20, 20, seed=2).load()
    marks = (Trigger(), BlendedTrigger(0.4, seed=5))
    rows = chosen_rows(train, 1, 0.6, 0)
    planted = plant(train, marks[0], 1, rows=rows[::2])
    planted = plant(planted, marks[1], 1, rows=rows[1::2])
    results = {}
    for name, records in (("clean", train), ("planted", planted)):
        module = initialise("small_cnn", {}, ImageSpec(1, 20, 20), 2, 0)
        train_locally(module, records, LocalTraining(steps=240), 0)
        results[name] = [success(module, test, mark, 1) for mark in marks]
        assert hits(module, test, marks[1], 1).mean() == results[name][1]
    for clean, planted_success in zip(results["clean"], results["planted"], strict=True):
        assert planted_success > clean + 0.4
