import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from letheon.errors import BadData
from letheon.unlearning.evidence.forgetting import ForgetStatistic, forget_statistic

LOSSES = hnp.arrays(
    np.float64,
    st.integers(1, 30),
    elements=st.floats(0, 20).map(lambda x: round(x, 2)),
)


def compare(erased, control, *, patients=(None, None), resamples=50, seed=0) -> ForgetStatistic:
    erased, control = np.asarray(erased, float), np.asarray(control, float)
    return forget_statistic(
        erased,
        control,
        erased < 1,
        control < 1,
        *patients,
        resamples=resamples,
        seed=seed,
    )


@given(LOSSES, LOSSES)
@settings(max_examples=60, deadline=None)
def test_the_auc_is_the_share_of_pairs_in_which_the_erased_record_is_easier(erased, control):
    wins = (erased[:, None] < control).mean() + 0.5 * (erased[:, None] == control).mean()
    assert compare(erased, control).auc == pytest.approx(wins)


@given(LOSSES, LOSSES)
@settings(max_examples=40, deadline=None)
def test_exchanging_the_groups_mirrors_the_auc(erased, control):
    assert compare(erased, control).auc == pytest.approx(1 - compare(control, erased).auc)


@given(LOSSES, LOSSES)
@settings(max_examples=40, deadline=None)
def test_only_the_order_of_losses_counts_for_the_auc(erased, control):
    stretched = compare(3 * erased + 1, 3 * control + 1)
    assert stretched.auc == pytest.approx(compare(erased, control).auc)


@given(LOSSES, LOSSES, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_same_seed_gives_the_same_intervals(erased, control, seed):
    assert compare(erased, control, seed=seed) == compare(erased, control, seed=seed)


def test_the_interval_covers_the_null_about_as_often_as_it_should():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        found = compare(
            rng.exponential(size=80), rng.exponential(size=60), resamples=200, seed=trial
        )
        covered += found.auc_low <= 0.5 <= found.auc_high
    assert 87 <= covered <= 100


def test_records_of_one_patient_do_not_count_as_independent():
    rng = np.random.default_rng(1)
    erased, control = (
        np.repeat(rng.exponential(size=20), 10),
        np.repeat(rng.exponential(size=20), 10),
    )
    patients = [f"p{i // 10}" for i in range(200)]
    by_record = compare(erased, control, resamples=300)
    by_patient = compare(erased, control, patients=(patients, patients), resamples=300)
    assert by_patient.auc == by_record.auc
    width = by_record.auc_high - by_record.auc_low
    assert by_patient.auc_high - by_patient.auc_low > 2 * width


def test_memorised_records_are_found_and_equal_ones_are_not():
    rng = np.random.default_rng(2)
    learned = compare(0.1 * rng.exponential(size=300), rng.exponential(size=300))
    equal = compare(rng.exponential(size=300), rng.exponential(size=300))
    assert learned.auc_low > 0.7
    assert equal.auc_low < 0.5 < equal.auc_high


def test_the_true_positive_rate_counts_records_above_one_percent_of_the_controls():
    control = np.linspace(1, 2, 200)  # two of them may lie above the threshold
    found = compare([0.5, 1.002, 1.007, 1.5], control)
    assert found.tpr_at_1pct_fpr == pytest.approx(0.75)


def test_with_few_controls_the_threshold_is_the_easiest_control():
    assert compare([0.1, 0.2, 5.0, 5.0], [0.3, 1.0]).tpr_at_1pct_fpr == pytest.approx(0.5)


def test_the_accuracy_gap_lies_in_its_interval():
    found = compare([0.1, 0.2, 0.3, 4.0] * 20, [0.1, 3.0] * 20, resamples=300)
    gap = found.accuracy_erased - found.accuracy_control
    assert gap == pytest.approx(0.25)
    assert found.accuracy_gap_low < gap < found.accuracy_gap_high


@pytest.mark.parametrize(
    ("erased", "control", "patients"),
    [
        ([], [1.0], (None, None)),
        ([1.0], [], (None, None)),
        ([float("nan")], [1.0], (None, None)),
        ([1.0], [float("inf")], (None, None)),
        ([1.0, 2.0], [1.0], (["p"], None)),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(erased, control, patients):
    with pytest.raises(BadData):
        compare(erased, control, patients=patients)
