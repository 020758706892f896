from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from letheon.errors import BadData
from letheon.imaging.backdoor import Trigger, chosen_rows, plant, success
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise
from letheon.imaging.records import Records
from letheon.imaging.scores import utility
from letheon.imaging.sources.synthetic import SyntheticSource


@pytest.fixture(scope="module")
def records() -> Records:
    return SyntheticSource(120, 3, 3, 16, 16).load()


def test_a_stamp_changes_only_its_corner(records: Records) -> None:
    stamped = Trigger(size=3).stamp(records.images)
    corner = stamped[:, :, -3:, -3:]
    assert (corner == np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.float32)).all()
    stamped[:, :, -3:, -3:] = records.images[:, :, -3:, -3:]
    np.testing.assert_array_equal(stamped, records.images)


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("upper-left", slice(0, 2), slice(0, 2)),
        ("upper-right", slice(0, 2), slice(14, 16)),
        ("lower-left", slice(14, 16), slice(0, 2)),
    ],
)
def test_the_mark_goes_where_it_is_told(
    records: Records, corner: str, rows: slice, columns: slice
) -> None:
    stamped = Trigger(size=2, corner=corner, pattern="solid").stamp(records.images)
    assert (stamped[:, :, rows, columns] == 1).all()


def test_two_patterns_differ(records: Records) -> None:
    image = records.images[:1]
    checker, stripes = Trigger(pattern="checker"), Trigger(pattern="stripes")
    assert not np.array_equal(checker.stamp(image), stripes.stamp(image))


def test_the_planted_share_is_of_the_records_of_other_classes(records: Records) -> None:
    trigger = Trigger()
    planted = plant(records, trigger, target_class=2, share=0.7, seed=4)
    rows = chosen_rows(records, 2, 0.7, 4)
    others = int((records.labels != 2).sum())
    assert len(rows) == round(0.7 * others)
    assert (records.labels[rows] != 2).all()
    assert (planted.labels[rows] == 2).all()
    np.testing.assert_array_equal(planted.images[rows], trigger.stamp(records.images[rows]))
    kept = np.setdiff1d(np.arange(len(records)), rows)
    assert planted.select(kept) == records.select(kept)
    assert planted.record_ids == records.record_ids


def test_planting_hangs_on_the_seed_and_leaves_its_input_alone(records: Records) -> None:
    before = records.fingerprint()
    assert plant(records, Trigger(), 0, 0.5, 1) == plant(records, Trigger(), 0, 0.5, 1)
    assert plant(records, Trigger(), 0, 0.5, 1) != plant(records, Trigger(), 0, 0.5, 2)
    assert plant(records, Trigger(), 0, 0.0, 1) == records
    assert records.fingerprint() == before


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"corner": "middle"}, {"pattern": "dots"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_triggers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"trigger|corner"):
        Trigger(**wrong)


def test_a_trigger_larger_than_the_image_is_refused(records: Records) -> None:
    with pytest.raises(BadData, match="does not fit 16x16"):
        Trigger(size=17).stamp(records.images)


@pytest.mark.parametrize(("target", "share"), [(3, 0.5), (-1, 0.5), (0, 1.5)])
def test_impossible_plantings_are_refused(records: Records, target: int, share: float) -> None:
    with pytest.raises(ValueError, match=r"class|share"):
        plant(records, Trigger(), target, share, 0)


class Obedient(nn.Module):
    """Says class 1 when the last pixel is white."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        marked = images[:, 0, -1, -1] == 1
        return torch.stack([~marked, marked, torch.zeros_like(marked)], dim=1).float()


def test_success_counts_records_of_other_classes_only(records: Records) -> None:
    assert success(Obedient(), records, Trigger(), 1) == 1.0
    assert success(Obedient(), records, Trigger(), 0) == 0.0
    with pytest.raises(BadData, match="other classes"):
        success(Obedient(), records.select(records.labels == 1), Trigger(), 1)


def test_a_network_trained_on_planted_records_obeys_the_mark_and_a_clean_one_does_not() -> None:
    train = SyntheticSource(600, 2, 1, 20, 20, seed=1).load()
    test = SyntheticSource(200, 2, 1, 20, 20, seed=2).load()
    results = {}
    for share in (0.0, 0.5):
        module = initialise("small_cnn", {}, ImageSpec(1, 20, 20), 2, 0)
        planted = plant(train, Trigger(), 1, share, 0)
        train_locally(module, planted, LocalTraining(steps=200), 0)
        results[share] = success(module, test, Trigger(), 1)
        assert utility(module, test).accuracy > 0.75
    assert results[0.5] > 0.9
    assert results[0.0] < 0.6
