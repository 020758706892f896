import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.unlearning.evidence.agreement import Agreement, agreement, judge_agreement
from letheon.unlearning.evidence.finding import Verdict
from letheon.unlearning.evidence.utility import (
    UtilityDifference,
    compare_utility,
    judge_utility,
    site_utilities,
)

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def right(count: int, records: int) -> np.ndarray:
    return np.arange(records) < count


def test_the_mean_weighs_sites_by_their_records() -> None:
    result = site_utilities({"north": right(90, 100), "south": right(30, 50)})
    assert result.mean == pytest.approx(120 / 150)
    assert (result.worst.site, result.worst.accuracy) == ("south", 0.6)
    assert (result.worst.low, result.worst.high) == pytest.approx((0.4618, 0.7239), abs=1e-4)
    assert result.records == 150


def test_the_difference_is_paired() -> None:
    result = compare_utility({"north": [1, 1, 0, 1]}, {"north": [1, 0, 1, 0]})
    assert result.mean == pytest.approx(0.25)
    # Agresti and Min: won 2, lost 1 of 4 -> centre 1/6, error sqrt((4/6 - 1/36) / 6)
    error = math.sqrt((4 / 6 - 1 / 36) / 6)
    assert result.low == pytest.approx(1 / 6 - 1.959964 * error)
    assert result.high == pytest.approx(1 / 6 + 1.959964 * error)


@given(answers)
def test_swapping_the_models_mirrors_difference_and_interval(pairs) -> None:
    mine, theirs = zip(*pairs, strict=True)
    one = compare_utility({"north": mine}, {"north": theirs})
    other = compare_utility({"north": theirs}, {"north": mine})
    assert (other.mean, other.low, other.high) == pytest.approx((-one.mean, -one.high, -one.low))
    assert one.low <= one.mean <= one.high


@given(answers, st.integers(0, 40))
def test_cutting_records_into_two_sites_changes_no_mean(pairs, cut) -> None:
    mine, theirs = (np.array(side) for side in zip(*pairs, strict=True))
    whole = compare_utility({"a": mine}, {"a": theirs})
    if 0 < cut < len(mine):
        parts = compare_utility(
            {"a": mine[:cut], "b": mine[cut:]}, {"a": theirs[:cut], "b": theirs[cut:]}
        )
        assert (parts.mean, parts.low, parts.high) == (whole.mean, whole.low, whole.high)
        assert parts.worst.difference <= whole.mean + 1e-12


def against(north: int, south: int, records: int = 2000) -> UtilityDifference:
    """The reference is right on 1,800 records at each of two sites."""
    reference = {"north": right(1800, records), "south": right(1800, records)}
    return compare_utility({"north": right(north, records), "south": right(south, records)},
                           reference)  # fmt: skip


def test_utility_passes_fails_and_is_inconclusive() -> None:
    broken = against(900, 900)
    assert judge_utility(against(1799, 1801)).verdict is PASS
    assert judge_utility(against(1799, 1801), broken).verdict is PASS
    assert judge_utility(against(1600, 1650), broken).verdict is FAIL
    assert judge_utility(against(1780, 1790)).verdict is INCONCLUSIVE
    assert judge_utility(against(1800, 1800), against(1795, 1800)).verdict is INCONCLUSIVE


def test_one_site_that_lost_much_fails_a_mean_that_holds() -> None:
    finding = judge_utility(against(1990, 1700))
    assert finding.value > 0
    assert finding.verdict is FAIL
    assert "worst site south" in finding.detail


def test_agreement_on_few_records_shows_no_equality() -> None:
    few = compare_utility({"north": [1, 1, 0]}, {"north": [1, 1, 0]})
    assert few.mean == 0
    assert judge_utility(few).verdict is INCONCLUSIVE


def test_utilities_that_do_not_pair_are_refused() -> None:
    with pytest.raises(BadData, match="do not pair"):
        compare_utility({"north": [1]}, {"south": [1]})
    with pytest.raises(BadData, match="1 records, 2 of the reference"):
        compare_utility({"north": [1]}, {"north": [1, 0]})
    with pytest.raises(BadData, match="at least one record"):
        site_utilities({"north": []})
    with pytest.raises(BadData, match="at least one site"):
        site_utilities({})


def test_agreement_counts_classes_and_averages_the_divergence() -> None:
    p, q = [[0.5, 0.5], [0.9, 0.1]], [[0.75, 0.25], [0.4, 0.6]]
    result = agreement(np.log(p), np.log(q))
    kl = [0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25),
          0.9 * math.log(0.9 / 0.4) + 0.1 * math.log(0.1 / 0.6)]  # fmt: skip
    assert result.agree == 0.5
    assert result.kl == pytest.approx(np.mean(kl))
    assert result.records == 2


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=10))
def test_a_model_agrees_with_itself_and_diverges_from_no_model_below_zero(logits) -> None:
    values = np.array(logits)
    log_p = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    same = agreement(log_p, log_p)
    assert (same.agree, same.kl) == (1.0, 0.0)
    assert agreement(log_p, np.roll(log_p, 1, axis=1)).kl >= 0


def test_a_class_that_neither_model_deems_possible_adds_nothing() -> None:
    with np.errstate(divide="ignore"):
        log_p = np.log([[1.0, 0.0]])
    assert agreement(log_p, log_p).kl == 0
    assert agreement(np.log([[0.5, 0.5]]), log_p).kl == math.inf


def test_predictions_that_are_none_are_refused() -> None:
    with pytest.raises(BadData, match="add up to 1"):
        agreement([[1.0, 2.0]], [[0.0, 0.0]])
    with pytest.raises(BadData, match="do not pair"):
        agreement(np.log([[0.5, 0.5]]), np.log([[1.0]]))
    with pytest.raises(BadData, match=r"\[n, classes\]"):
        agreement([], [])


def agreeing(count: int, records: int = 2000) -> Agreement:
    p = np.log(np.tile([0.9, 0.1], (records, 1)))
    q = np.where(right(count, records)[:, None], p, p[:, ::-1])
    return agreement(p, q)


def test_agreement_passes_fails_and_is_inconclusive() -> None:
    floor = [agreeing(1975), agreeing(1982), agreeing(1980)]
    before = agreeing(1500)
    assert judge_agreement(agreeing(1978), floor, before).verdict is PASS
    assert judge_agreement(agreeing(1800), floor, before).verdict is FAIL
    assert judge_agreement(agreeing(1978), floor, agreeing(1970)).verdict is INCONCLUSIVE
    assert judge_agreement(agreeing(1978), floor, None).verdict is INCONCLUSIVE
    with pytest.raises(BadData, match="two retrained models"):
        judge_agreement(agreeing(1978), [], before)
