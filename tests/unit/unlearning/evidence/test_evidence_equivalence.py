import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from letheon.errors import BadData
from letheon.unlearning.evidence.equivalence import tost

differences = st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=1, max_size=12)
margins = st.floats(0.01, 2)


def test_the_numbers_of_a_case_computed_by_hand() -> None:
    result = tost([0.1, -0.2, 0.3, 0.2], -1.0, 1.0)
    assert result.mean == pytest.approx(0.1)
    assert result.sd == pytest.approx(math.sqrt(0.14 / 3))
    # t(0.95, 3) = 2.353; error = 0.21602 / 2
    assert (result.ci_low, result.ci_high) == pytest.approx((-0.15418, 0.35418), abs=1e-4)
    error = result.sd / 2
    assert result.p_value == pytest.approx(stats.t.sf(0.9 / error, 3))
    assert result.equivalent


@given(values=differences, low=margins, high=margins, alpha=st.floats(0.01, 0.2))
def test_a_mean_outside_the_margins_is_never_equivalent(values, low, high, alpha) -> None:
    result = tost(values, -low, high, alpha=alpha)
    if not -low < result.mean < high or result.count == 1:
        assert not result.equivalent


@given(values=differences, low=margins, high=margins)
def test_equivalent_means_that_the_interval_lies_inside_the_margins(values, low, high) -> None:
    result = tost(values, -low, high)
    assume(abs(result.ci_low + low) > 1e-9 and abs(result.ci_high - high) > 1e-9)
    assume(abs(result.p_value - 0.05) > 1e-9)
    assert result.equivalent == (-low < result.ci_low and result.ci_high < high)


@given(values=differences, low=margins, high=margins, more=st.floats(0, 2))
def test_wider_margins_never_undo_equivalence(values, low, high, more) -> None:
    if tost(values, -low, high).equivalent:
        assert tost(values, -low - more, high + more).equivalent


def test_one_infinite_margin_is_the_t_test_of_non_inferiority() -> None:
    values = [0.01, -0.02, 0.0, 0.015, -0.005]
    result = tost(values, -0.03, math.inf)
    expected = stats.ttest_1samp(values, -0.03, alternative="greater").pvalue
    assert result.p_value == pytest.approx(expected)
    assert tost([5.0, 5.1, 4.9], -0.03, math.inf).equivalent


def test_one_seed_shows_nothing() -> None:
    result = tost([0.0], -1, 1)
    assert not result.equivalent
    assert math.isnan(result.sd)
    assert (result.ci_low, result.ci_high, result.p_value) == (-math.inf, math.inf, 1.0)


def test_differences_without_variance_are_taken_at_their_word() -> None:
    assert tost([0.5, 0.5, 0.5], -1, 1).equivalent
    assert not tost([1.0, 1.0, 1.0], -1, 1).equivalent
    assert tost([1.0, 1.0], -1, 1).p_value == 1.0


def test_chance_declares_equivalence_at_the_margin_as_often_as_alpha_says() -> None:
    rng = np.random.default_rng(0)
    hits = sum(tost(rng.normal(1.0, 0.3, 6), -1.0, 1.0).equivalent for _ in range(1000))
    assert 25 <= hits <= 78  # 50 expected, 4 standard errors


@pytest.mark.parametrize(
    ("values", "low", "high", "alpha"),
    [
        ([], -1, 1, 0.05),
        ([math.nan, 0], -1, 1, 0.05),
        ([0, 1], 0.1, 1, 0.05),
        ([0, 1], -1, 0, 0.05),
        ([0, 1], -math.inf, math.inf, 0.05),
        ([0, 1], -1, 1, 0.7),
    ],
)
def test_impossible_questions_are_refused(values, low, high, alpha) -> None:
    with pytest.raises(BadData, match=r"equivalence|alpha"):
        tost(values, low, high, alpha=alpha)
