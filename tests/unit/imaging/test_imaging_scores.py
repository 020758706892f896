import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from letheon.errors import BadData
from letheon.imaging.records import Records
from letheon.imaging.scores import macro_auc, predict, rank_auc, record_losses, utility


class FirstPixel(nn.Module):
    """Logits [0, first pixel, 0, ...]; a pixel of one half answers NaN."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(images), len(self.weight))
        first = images[:, 0, 0, 0]
        logits[:, 1] = torch.where(first == 0.5, torch.nan, (first - 0.4) * 10)
        return logits


def records_of(pixels: list[float], labels: list[int]) -> Records:
    return Records(
        images=np.array(pixels, np.float32).reshape(-1, 1, 1, 1),
        labels=np.array(labels, np.int64),
        record_ids=tuple(map(str, range(len(labels)))),
        patients=None,
        class_names=("a", "b"),
    )


def test_scores_match_a_computation_by_hand() -> None:
    records = records_of([0.9, 0.8, 0.1, 0.2, 0.3], [1, 0, 0, 0, 1])
    scores = utility(FirstPixel(), records)
    assert scores.records == 5
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.balanced_accuracy == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores.macro_auc == pytest.approx(5 / 6)
    logits = (np.array([0.9, 0.8, 0.1, 0.2, 0.3]) - 0.4) * 10
    signs = np.array([-1, 1, 1, 1, -1])
    assert scores.mean_loss == pytest.approx(np.log1p(np.exp(signs * logits)).mean(), rel=1e-5)


def test_the_auc_is_absent_when_a_class_has_no_record() -> None:
    scores = utility(FirstPixel(), records_of([0.1, 0.2], [0, 0]))
    assert scores.macro_auc is None
    assert scores.balanced_accuracy == 1.0


def test_losses_come_in_the_order_of_the_records() -> None:
    losses, correct = record_losses(FirstPixel(), records_of([0.9, 0.9, 0.1], [1, 0, 0]))
    assert losses.dtype == np.float64
    assert correct.tolist() == [True, False, True]
    assert losses[1] > losses[0]


def test_a_broken_answer_is_a_guess_that_is_never_right() -> None:
    losses, correct = record_losses(FirstPixel(), records_of([0.5, 0.9], [0, 1]))
    assert not correct[0]
    assert losses[0] == pytest.approx(math.log(2))
    assert np.isfinite(losses).all()


def test_more_records_than_a_batch_are_all_scored() -> None:
    pixels = np.random.default_rng(0).random(700)
    records = records_of(pixels.tolist(), [0] * 700)
    assert predict(FirstPixel(), records.images).classes.tolist() == (pixels > 0.4).tolist()


def test_scoring_leaves_the_mode_as_it_was() -> None:
    module = FirstPixel().train()
    utility(module, records_of([0.1], [0]))
    assert module.training


def test_no_records_cannot_be_scored() -> None:
    with pytest.raises(BadData, match="no records"):
        utility(FirstPixel(), records_of([], []))


numbers = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({positive for _, positive in pairs}) == 2
)


@given(numbers)
def test_the_rank_auc_is_the_share_of_pairs_in_order_with_ties_counted_half(
    pairs: list[tuple[int, bool]],
) -> None:
    above = [score for score, positive in pairs if positive]
    below = [score for score, positive in pairs if not positive]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in above for b in below]
    scores = np.array([score for score, _ in pairs], dtype=np.float64)
    positive = np.array([positive for _, positive in pairs])
    assert rank_auc(scores, positive) == pytest.approx(np.mean(wins))


def test_an_auc_of_one_side_alone_is_refused() -> None:
    with pytest.raises(BadData, match="both sides"):
        rank_auc(np.zeros(2), np.array([True, True]))


def test_the_macro_auc_averages_over_the_classes() -> None:
    scores = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6]]))
    labels = np.array([0, 1, 0, 2])
    assert macro_auc(scores, labels) == 1.0
    swapped = replace(records_of([0.1] * 4, [0, 1, 0, 2]), labels=np.array([1, 1, 0, 2]))
    assert macro_auc(scores, swapped.labels) == pytest.approx((2 / 3 + 1 / 2 + 1.0) / 3, abs=0.2)
