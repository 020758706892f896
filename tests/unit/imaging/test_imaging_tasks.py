from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_builders import some_records
from torch import nn

from letheon.errors import BadConfig, BadData
from letheon.imaging.fitness import class_counts
from letheon.imaging.records import Records
from letheon.imaging.scores import record_losses, utility
from letheon.imaging.tasks.classification import Classification
from letheon.imaging.tasks.multi_label import MultiLabel
from letheon.imaging.tasks.segmentation import Segmentation, hard_dice
from letheon.imaging.tasks.tabular import Tabular


class Answers(nn.Module):
    """Gives the same answers whatever the images, row by row."""

    def __init__(self, answers: np.ndarray) -> None:
        super().__init__()
        self.answers = nn.Parameter(torch.from_numpy(answers.astype(np.float32)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.answers[: len(images)]


def multi_label(labels: list[list[int]]) -> Records:
    some = some_records("multi_label", count=len(labels))
    return replace(some, labels=np.array(labels, dtype=np.int64))


def segmented(masks: np.ndarray) -> Records:
    count = len(masks)
    return Records(
        images=np.zeros((count, 1, *masks.shape[1:]), dtype=np.float32),
        labels=masks.astype(np.uint8),
        record_ids=tuple(map(str, range(count))),
        patients=None,
        class_names=("background", "front", "back"),
    )


# classification and tabular


def test_classification_scores_are_those_the_services_always_had() -> None:
    records = some_records("classification")
    module = Answers(np.random.default_rng(0).normal(size=(len(records), 2)))
    task = Classification()
    assert task.utility(module, records) == utility(module, records)
    for ours, theirs in zip(
        task.judge_records(module, records), record_losses(module, records), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_volumes_are_classified_too() -> None:
    records = some_records("classification", volumes=True)
    Classification().check_fit(records, shape=(1, 8, 16, 16), classes=2)


def test_recall_of_each_class_is_told_by_name() -> None:
    records = some_records("classification", count=4)
    module = Answers(np.array([[1, 0], [1, 0], [1, 0], [0, 1]]))
    assert Classification().class_scores(module, records) == {"no": 1.0, "yes": 0.5}


def test_a_table_is_no_image_and_an_image_no_table() -> None:
    with pytest.raises(BadConfig, match="tabular"):
        Classification().output_shape((13,), 2)
    with pytest.raises(BadConfig, match="features"):
        Tabular().output_shape((1, 28, 28), 2)


def test_features_may_have_any_finite_value() -> None:
    records = some_records("tabular")
    wide = replace(records, images=records.images * np.float32(1000))
    Tabular().check_fit(wide, shape=(5,), classes=2)
    holed = wide.images.copy()
    holed[3, 2] = np.nan
    with pytest.raises(BadData, match="feature 2 of 1 records"):
        Tabular().check_fit(replace(wide, images=holed), shape=(5,), classes=2)


# multi-label


def test_unknown_labels_take_part_in_nothing() -> None:
    logits = np.array([[3.0, -50.0], [-3.0, 2.0], [1.0, 50.0], [-1.0, -2.0]])
    told = multi_label([[1, -1], [0, 1], [1, -1], [0, 0]])
    other = multi_label([[1, -1], [0, 1], [1, -1], [0, 0]])
    shifted = logits.copy()
    shifted[[0, 2], 1] = 7.0  # where the label is unknown
    task = MultiLabel()
    assert task.utility(Answers(logits), told) == task.utility(Answers(shifted), other)
    losses = [
        task.loss(torch.from_numpy(each), torch.from_numpy(np.asarray(told.labels)))
        for each in (logits, shifted)
    ]
    assert losses[0] == losses[1]


def test_the_score_of_several_labels_is_their_mean_auc() -> None:
    records = multi_label([[1, 0], [1, 0], [0, 0], [0, 1]])
    logits = np.array([[4.0, -9.0], [1.0, -8.0], [2.0, -7.0], [0.5, -6.0]])
    found = MultiLabel().utility(Answers(logits), records)
    assert found.macro_auc == pytest.approx((0.75 + 1.0) / 2)
    assert found.accuracy == found.macro_auc  # although no rare finding is ever reported
    scores = MultiLabel().class_scores(Answers(logits), records)
    assert scores == {"no": pytest.approx(0.75), "yes": 1.0}


def test_without_both_outcomes_the_score_is_the_share_that_is_right() -> None:
    records = multi_label([[1, 0], [1, 0]])
    found = MultiLabel().utility(Answers(np.array([[1.0, -1.0], [-1.0, -1.0]])), records)
    assert found.macro_auc is None
    assert found.accuracy == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([[1, 0], [-1, -1]], "1 records have no known label"),
        ([[1, 0], [1, 0]], "nothing to learn"),
        ([[1, -1], [1, 0]], "nothing to learn"),
    ],
)
def test_labels_that_teach_nothing_are_refused(labels: list[list[int]], sentence: str) -> None:
    with pytest.raises(BadData, match=sentence):
        MultiLabel().check_fit(multi_label(labels), shape=(1, 16, 16), classes=2)


# segmentation


def test_dice_of_hand_made_masks() -> None:
    masks = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[2, 0], [0, 0]]])
    told = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 1]]])
    dice = hard_dice(told, masks, 3)
    np.testing.assert_allclose(dice, [[2 / 3, np.nan], [np.nan, np.nan], [0.0, 0.0]])
    answers = np.eye(3)[told].transpose(0, 3, 1, 2) * 9.0
    task, records = Segmentation(), segmented(masks)
    _, right = task.judge_records(Answers(answers), records)
    np.testing.assert_allclose(right, [2 / 3, 1.0, 0.0])
    found = task.utility(Answers(answers), records)
    assert found.accuracy == pytest.approx((2 / 3 + 1) / 3)
    assert found.macro_auc is None
    assert task.class_scores(Answers(answers), records) == {
        "front": pytest.approx(1 / 3),
        "back": 0.0,
    }


def test_the_loss_is_that_of_monai() -> None:
    losses = pytest.importorskip("monai.losses")
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 3, 4, 6, 5, generator=generator, dtype=torch.float64)
    masks = torch.randint(0, 3, (3, 4, 6, 5), generator=generator, dtype=torch.uint8)
    theirs = losses.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    # MONAI leaves the background out of the cross-entropy as well: compared apart.
    dice = Segmentation(cross_entropy_weight=0.0).loss(outputs, masks)
    assert float(dice) == pytest.approx(float(theirs.dice(outputs, masks[:, None])), rel=1e-9)
    entropy = Segmentation(dice_weight=0.0).loss(outputs, masks)
    expected = nn.functional.cross_entropy(outputs, masks.long())
    assert float(entropy) == pytest.approx(float(expected), rel=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_dice_lies_between_zero_and_one_and_is_symmetric(seed: int) -> None:
    generator = np.random.default_rng(seed)
    told, masks = generator.integers(0, 3, size=(2, 4, 3, 3))
    dice = hard_dice(told, masks, 3)
    np.testing.assert_array_equal(dice, hard_dice(masks, told, 3))
    known = dice[np.isfinite(dice)]
    assert ((known >= 0) & (known <= 1)).all()
    itself = hard_dice(masks, masks, 3)
    assert (itself[np.isfinite(itself)] == 1.0).all()


def test_masks_that_do_not_fit_are_refused() -> None:
    task = Segmentation()
    records = some_records("segmentation")
    with pytest.raises(BadData, match="masks must hold 0 to 1; the source has 2"):
        task.check_fit(
            replace(records, labels=np.asarray(records.labels) * np.uint8(2)),
            shape=(1, 16, 16),
            classes=2,
        )
    empty = replace(records, labels=np.zeros_like(np.asarray(records.labels)))
    with pytest.raises(BadData, match="every mask is empty"):
        task.check_fit(empty, shape=(1, 16, 16), classes=2)
    task.check_labels(empty, 2)  # a part that is set aside may be so


def test_weights_of_the_loss_are_checked() -> None:
    with pytest.raises(ValueError, match="not both 0"):
        Segmentation(dice_weight=0.0, cross_entropy_weight=0.0)


def test_class_counts_say_how_many_records_hold_a_class() -> None:
    assert class_counts(some_records("classification", 5)) == {"no": 3, "yes": 2}
    assert class_counts(multi_label([[1, -1], [1, 1], [0, 0]])) == {"no": 2, "yes": 1}
    masks = np.array([[[1, 1], [0, 2]], [[0, 0], [0, 0]], [[2, 0], [0, 0]]])
    assert class_counts(segmented(masks)) == {"front": 1, "back": 2}
