import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.unlearning.evidence.backdoor import Backdoor, backdoor, judge_backdoor
from letheon.unlearning.evidence.canaries import Canaries, Mislabelled, canaries, judge_canaries
from letheon.unlearning.evidence.finding import Verdict
from letheon.unlearning.evidence.gap import Gap, gap_to_control, gap_to_reference, judge_gap

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def hits(count: int, records: int = 400) -> np.ndarray:
    return np.arange(records) < count


def test_success_has_the_interval_of_wilson() -> None:
    result = backdoor(hits(5, 10), hits(0, 10))
    assert (result.success, result.base_rate, result.records) == (0.5, 0.0, 10)
    assert (result.low, result.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert (result.base_low, result.base_high) == pytest.approx((0.0, 0.2775), abs=1e-4)


@given(st.integers(1, 300), st.data())
def test_the_interval_holds_the_share(records: int, data) -> None:
    result = backdoor(hits(data.draw(st.integers(0, records)), records))
    assert 0 <= result.low <= result.success + 1e-12
    assert result.success - 1e-12 <= result.high <= 1


def judged_backdoor(candidate: int, before: int, base: int = 4) -> Verdict:
    measured: Backdoor = backdoor(hits(candidate), hits(base))
    return judge_backdoor(measured, backdoor(hits(before))).verdict


def test_a_backdoor_passes_fails_and_is_inconclusive() -> None:
    assert judged_backdoor(6, 398) is PASS
    assert judged_backdoor(200, 398) is FAIL
    assert judged_backdoor(4, 6) is INCONCLUSIVE
    assert judge_backdoor(backdoor(hits(4), hits(4)), None).verdict is INCONCLUSIVE


def test_the_error_of_the_base_rate_counts() -> None:
    """A second retrained model, 0.9 points above the first: no more than chance."""
    retrained = backdoor(hits(22, 888), hits(14, 888))
    finding = judge_backdoor(retrained, backdoor(hits(846, 888)))
    assert finding.low < 0 < finding.value < 0.01
    assert finding.verdict is PASS
    assert "base rate 0.016" in finding.detail


def test_success_without_a_base_rate_is_not_judged() -> None:
    with pytest.raises(BadData, match="base rate"):
        judge_backdoor(backdoor(hits(4)), None)
    with pytest.raises(BadData, match="one record"):
        backdoor([])


def paired(shift: float, flips: int, *, patients: int = 100) -> Gap:
    """The model is `shift` nats better and right on `flips` records more than the reference."""
    rng = np.random.default_rng(0)
    reference = rng.exponential(1.0, 200) + 1
    right = np.arange(200) < 100
    groups = [f"p{i % patients}" for i in range(200)]
    return gap_to_reference(
        reference - shift + rng.normal(0, 0.1, 200), np.arange(200) < 100 + flips,
        reference, right, groups, resamples=300, seed=1,
    )  # fmt: skip


def unpaired(shift: float, flips: int) -> Gap:
    rng = np.random.default_rng(0)
    return gap_to_control(
        rng.normal(2 - shift, 0.3, 300), np.arange(300) < 150 + flips,
        rng.normal(2, 0.3, 300), np.arange(300) < 150,
        None, None, resamples=300, seed=1,
    )  # fmt: skip


def test_the_gap_is_the_difference_of_the_means() -> None:
    gap = gap_to_reference([1, 2], [1, 0], [2, 4], [0, 0], None, resamples=10, seed=0)
    assert (gap.accuracy.value, gap.loss.value) == (0.5, 1.5)
    gap = gap_to_control([1, 2], [1, 0], [2, 4, 3], [0, 0, 1], None, None, resamples=9, seed=0)
    assert gap.accuracy.value == pytest.approx(0.5 - 1 / 3)
    assert gap.loss.value == 1.5
    assert (gap.records, gap.patients, gap.against) == (2, 2, "control records")


@given(
    losses=st.lists(st.floats(0, 5), min_size=2, max_size=20), shift=st.floats(-2, 2),
    seed=st.integers(0, 50),
)  # fmt: skip
def test_a_shift_of_every_loss_moves_the_gap_and_its_interval_by_as_much(
    losses, shift, seed
) -> None:
    ones = np.ones(len(losses))
    gap = gap_to_reference(
        np.asarray(losses) - shift, ones, losses, ones, None, resamples=10, seed=seed
    )
    for value in (gap.loss.value, gap.loss.low, gap.loss.high):
        assert value == pytest.approx(shift, abs=1e-9)
    assert gap.accuracy.value == 0


@pytest.mark.parametrize("measure", [paired, unpaired])
def test_a_gap_passes_fails_and_is_inconclusive(measure) -> None:
    before, gone, there = measure(1.5, 80), measure(0.0, 0), measure(1.0, 60)
    assert [f.verdict for f in judge_gap(gone, before)] == [PASS, PASS]
    assert [f.verdict for f in judge_gap(there, before)] == [FAIL, FAIL]
    assert [f.verdict for f in judge_gap(gone, gone)] == [INCONCLUSIVE] * 2
    assert [f.verdict for f in judge_gap(gone, None)] == [INCONCLUSIVE] * 2


def test_answers_that_agree_on_few_records_leave_an_error() -> None:
    same = gap_to_reference([1, 1], [1, 1], [1, 1], [1, 1], None, resamples=10, seed=0)
    assert same.accuracy.low == same.accuracy.high == 0
    assert same.accuracy.upper(1.96) > 0.5
    one = gap_to_reference([1, 2], [1, 1], [1, 3], [1, 1], ["a", "a"], resamples=10, seed=0)
    assert one.loss.upper(1.96) == math.inf


def test_losses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadData, match="not finite"):
        gap_to_reference([math.nan], [1], [1], [1], None, resamples=1, seed=0)
    with pytest.raises(BadData, match="same length"):
        gap_to_control([1], [1, 0], [1], [1], None, None, resamples=1, seed=0)
    with pytest.raises(BadData, match="2 erased records, but 1"):
        gap_to_reference([1, 2], [1, 0], [1], [1], None, resamples=1, seed=0)


def mislabelled(remembered: int, *, loss: float, records: int = 200) -> Mislabelled:
    answers = np.where(np.arange(records) < remembered, 1, 0)
    losses = np.random.default_rng(1).normal(loss, 0.3, records)
    return Mislabelled(answers, np.ones(records, np.int64), losses, None)


def measured_canaries(remembered: int, loss: float) -> Canaries:
    control = mislabelled(10, loss=3.0)
    return canaries(mislabelled(remembered, loss=loss), control, resamples=300, seed=0)


def test_canaries_are_measured_against_patients_mislabelled_in_the_same_way() -> None:
    result = measured_canaries(120, 1.0)
    assert (result.share, result.base_share) == (0.6, 0.05)
    assert result.loss_low < result.loss_gap < result.loss_high
    assert result.loss_gap == pytest.approx(2.0, abs=0.01)
    assert (result.records, result.patients) == (200, 200)


def test_canaries_pass_fail_and_are_inconclusive() -> None:
    before, gone, there = (
        measured_canaries(120, 1.0), measured_canaries(12, 3.0), measured_canaries(80, 2.0)
    )  # fmt: skip
    assert [f.verdict for f in judge_canaries(gone, before)] == [PASS, PASS]
    assert [f.verdict for f in judge_canaries(there, before)] == [FAIL, FAIL]
    assert [f.verdict for f in judge_canaries(gone, gone)] == [INCONCLUSIVE] * 2


def test_controls_that_do_not_match_are_held_against_a_retrained_model() -> None:
    easier = measured_canaries(11, 2.0)
    assert judge_canaries(easier, measured_canaries(120, 1.0))[1].verdict is FAIL
    share, loss = judge_canaries(
        easier, measured_canaries(120, 1.0), measured_canaries(12, 2.0), loss_margin=0.2
    )
    assert (share.verdict, loss.verdict) == (PASS, PASS)
    assert loss.null_high == pytest.approx(1.2, abs=1e-6)


def test_a_patient_with_many_records_counts_once() -> None:
    one = mislabelled(200, loss=1.0)
    patients = [f"p{i // 50}" for i in range(200)]
    few = Mislabelled(one.answers, one.wrong_labels, one.losses, patients)
    control = mislabelled(10, loss=3.0)
    result = canaries(few, control, resamples=50, seed=0)
    assert result.patients == 4
    assert result.low < canaries(one, control, resamples=50, seed=0).low - 0.3


def test_answers_without_their_labels_are_refused() -> None:
    broken = Mislabelled([1, 2], [1], [0.1, 0.2], None)
    with pytest.raises(BadData, match="2 answers, but 1 wrong labels"):
        canaries(broken, mislabelled(1, loss=1.0), resamples=1, seed=0)
