import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.unlearning.evidence.finding import Verdict
from letheon.unlearning.evidence.low_false_positives import (
    clopper_pearson,
    judge_low_false_positives,
    low_false_positives,
)
from letheon.unlearning.evidence.membership import (
    Membership,
    calibrated_scores,
    judge_membership,
    lira_scores,
    membership,
    scaled_confidences,
)

whole = st.lists(st.integers(-50, 50), min_size=2, max_size=30)


def attack(members, others, *, resamples: int = 200, seed: int = 0, groups=(None, None)):
    return membership(members, others, *groups, resamples=resamples, seed=seed)


def toy(shift: float, seed: int, count: int = 200, resamples: int = 200) -> Membership:
    rng = np.random.default_rng(seed)
    members, others = rng.normal(shift, 1, count), rng.normal(0, 1, count)
    return attack(members, others, resamples=resamples)


def test_the_numbers_of_a_case_counted_by_hand() -> None:
    result = attack([3, 2, 1], [2, 0])
    # pairs: 3>2 3>0 2=2 2>0 1<2 1>0
    assert result.auc == pytest.approx(4.5 / 6)
    assert result.tpr_at_1pct == pytest.approx(1 / 3)  # one of three above every other
    assert (result.members, result.others) == (3, 2)


def test_with_a_hundred_others_one_may_lie_above_the_threshold() -> None:
    others = list(range(100))
    assert attack([98, 98.5, 99, 100], others).tpr_at_1pct == pytest.approx(3 / 4)


@given(members=whole, others=whole, seed=st.integers(0, 99))
def test_an_attack_only_sees_the_order_of_scores(members, others, seed) -> None:
    before = attack(members, others, resamples=20, seed=seed)
    after = attack(np.exp(np.divide(members, 10)), np.exp(np.divide(others, 10)), resamples=20,
                   seed=seed)  # fmt: skip
    assert after == before


@given(members=whole, others=whole)
def test_swapping_the_sides_mirrors_the_auc(members, others) -> None:
    mirrored = attack(others, members, resamples=1).auc
    assert attack(members, others, resamples=1).auc == pytest.approx(1 - mirrored)


def test_the_interval_covers_one_half_under_the_null_about_as_often_as_it_says() -> None:
    results = [toy(0.0, seed, count=60, resamples=100) for seed in range(100)]
    covered = sum(result.auc_low <= 0.5 <= result.auc_high for result in results)
    assert 87 <= covered <= 99
    assert np.mean([result.auc for result in results]) == pytest.approx(0.5, abs=0.02)


def test_records_of_one_patient_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    scores = np.repeat(rng.normal(0, 1, 40), 10), rng.normal(0, 1, 400)
    patients = [f"p{i // 10}" for i in range(400)], None
    alone, together = attack(*scores), attack(*scores, groups=patients)
    assert together.auc == alone.auc
    assert together.auc_high - together.auc_low > 1.5 * (alone.auc_high - alone.auc_low)


def test_one_patient_on_a_side_leaves_everything_open() -> None:
    result = attack([1.0, 2.0], [0.0, 0.5], groups=(["a", "a"], None))
    assert (result.auc_low, result.auc_high) == (0.0, 1.0)


def test_membership_passes_fails_and_is_inconclusive() -> None:
    seen, gone = toy(1.0, 1), toy(0.0, 2)
    assert judge_membership(gone, seen).verdict is Verdict.PASS
    assert judge_membership(toy(0.9, 3), seen).verdict is Verdict.FAIL
    assert judge_membership(gone, toy(0.0, 4)).verdict is Verdict.INCONCLUSIVE
    assert judge_membership(gone, None).verdict is Verdict.INCONCLUSIVE
    assert judge_membership(seen, toy(2.0, 5), retrained=0.75).verdict is Verdict.PASS


def test_three_separated_records_are_no_positive_control() -> None:
    separated = attack([5, 6, 7], [1, 2, 3])
    assert separated.auc == 1.0
    assert not judge_membership(attack([1, 5, 3], [2, 4, 6]), separated).control_fired


def test_a_calibrated_score_is_what_the_reference_finds_harder() -> None:
    np.testing.assert_allclose(calibrated_scores([0.1, 2.0], [0.5, 1.5]), [0.4, -0.5])
    np.testing.assert_allclose(calibrated_scores([1.0], [[2.0], [4.0]]), [2.0])


def test_calibration_finds_members_that_hardness_hides() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.exponential(3.0, 400)
    losses = hardness * np.where(np.arange(400) < 200, 0.8, 1.0)
    plain = attack(-losses[:200], -losses[200:]).auc
    scores = calibrated_scores(losses, hardness + rng.normal(0, 0.05, 400))
    assert attack(scores[:200], scores[200:]).auc > plain + 0.2


def test_a_scaled_confidence_is_the_logit_of_the_probability() -> None:
    log_p = np.log([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]])
    expected = [math.log(0.2 / 0.8), math.log(0.5 / 0.5)]
    np.testing.assert_allclose(scaled_confidences(log_p, [1, 0]), expected, atol=1e-12)
    assert scaled_confidences([[0.0, -800.0]], [0])[0] == pytest.approx(800.0)


def gaussian_shadows(shift: float, shadows: int, seed: int, count: int = 200) -> Membership:
    """Records of very different hardness; a member stands out by `shift` of its own spread."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 5, 2 * count)
    shadow = hardness + rng.normal(0, 1, (shadows, 2 * count))
    own = hardness + rng.normal(0, 1, 2 * count)
    own[:count] += shift
    scores = lira_scores(own, shadow)
    return attack(scores[:count], scores[count:], resamples=100)


@pytest.mark.parametrize("shadows", [8, 64])
def test_lira_finds_members_among_records_of_different_hardness(shadows: int) -> None:
    assert gaussian_shadows(2.0, shadows, 0).auc > 0.88


def test_lira_finds_nobody_under_the_null() -> None:
    results = [gaussian_shadows(0.0, 16, seed, count=60) for seed in range(80)]
    covered = sum(result.auc_low <= 0.5 <= result.auc_high for result in results)
    assert 69 <= covered <= 80
    assert np.mean([result.auc for result in results]) == pytest.approx(0.5, abs=0.02)


def test_a_lira_score_counts_standard_deviations() -> None:
    shadows = np.array([[1.0, 10.0], [3.0, 14.0]])  # variances 2 and 8, shared: 5
    np.testing.assert_allclose(
        lira_scores([4.0, 12.0], shadows), [2 / math.sqrt(5), 0.0], atol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attack([], [1]), "member record"),
        (lambda: attack([1], [math.nan]), "not finite"),
        (lambda: attack([1, 2], [1], groups=(["a"], None)), "patient entries"),
        (lambda: attack([1], [1], resamples=0), "resample"),
        (lambda: calibrated_scores([1, 2], [1]), "do not fit"),
        (lambda: scaled_confidences([[0.0]], [0]), "do not fit"),
        (lambda: lira_scores([1.0], [[1.0]]), "two shadow models"),
        (lambda: lira_scores([1.0], [[1.0], [1.0]]), "last bit"),
        (lambda: lira_scores([1.0, 2.0], [[1.0], [2.0]]), "do not fit"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, words: str) -> None:
    with pytest.raises(BadData, match=words):
        call()


def low_rate(found: int, others: int = 200, members: int = 200):
    """`found` members above every other; the rest below."""
    scores = np.where(np.arange(members) < found, 10.0, -10.0)
    return low_false_positives(scores, np.linspace(0, 1, others))


def test_the_bounds_of_the_rate_are_exact() -> None:
    result = low_rate(0)
    assert (result.tpr, result.low) == (0.0, 0.0)
    assert result.high == pytest.approx(1 - 0.025 ** (1 / 200))
    assert clopper_pearson(0.1, 10) == pytest.approx((0.002529, 0.445016), abs=1e-5)
    assert clopper_pearson(1.0, 10)[1] == 1.0


def test_a_low_rate_passes_fails_and_is_inconclusive() -> None:
    assert judge_low_false_positives(low_rate(2), low_rate(80)).verdict is Verdict.PASS
    assert judge_low_false_positives(low_rate(60), low_rate(80)).verdict is Verdict.FAIL
    assert judge_low_false_positives(low_rate(2), low_rate(3)).verdict is Verdict.INCONCLUSIVE


def test_fewer_than_a_hundred_controls_cannot_tell() -> None:
    few = low_rate(80, others=99)
    assert not few.resolved
    assert judge_low_false_positives(low_rate(2), few).verdict is Verdict.INCONCLUSIVE
    finding = judge_low_false_positives(low_rate(2, others=99), low_rate(80))
    assert finding.verdict is Verdict.INCONCLUSIVE


def test_records_of_few_patients_bound_the_rate_less() -> None:
    scores = np.where(np.arange(200) < 20, 10.0, -10.0)
    patients = [f"p{i // 20}" for i in range(200)]
    wide = low_false_positives(scores, np.linspace(0, 1, 200), patients)
    assert wide.tpr == low_rate(20).tpr
    assert wide.high > low_rate(20).high + 0.1


@pytest.mark.parametrize("sides", [([], [1.0]), ([math.inf], [1.0]), ([[1.0]], [1.0])])
def test_a_rate_of_nothing_is_refused(sides) -> None:
    with pytest.raises(BadData):
        low_false_positives(*sides)
