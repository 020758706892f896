import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from letheon.errors import BadConfig, BadData
from letheon.federation.arithmetic import accumulate
from letheon.unlearning.federaser import FedEraser, calibrated_step
from letheon.unlearning.patient_swap import swap_patch

SIZE = 12
floats = st.floats(-4, 4, width=32)
counts = st.integers(1, 6)
updates = counts.flatmap(lambda k: arrays.arrays(np.float32, (k, SIZE), elements=floats))


@st.composite
def histories(draw):
    """Coefficients, and old and new deltas in entry order."""
    count = draw(counts)
    shape = (count, SIZE)
    coefficients = draw(st.lists(st.floats(0, 2, width=32), min_size=count, max_size=count))
    old = draw(arrays.arrays(np.float32, shape, elements=floats))
    new = draw(arrays.arrays(np.float32, shape, elements=floats))
    return coefficients, list(old), list(new)


def contribution(coefficients, deltas):
    total = np.zeros(SIZE, np.float32)
    for coefficient, delta in zip(coefficients, deltas, strict=True):
        accumulate(total, coefficient, delta)
    return total


def mean_of(rows):
    return rows.mean(axis=0, dtype=np.float64)


@given(old=updates, new=updates)
@settings(max_examples=200, deadline=None)
def test_a_calibrated_step_has_the_length_of_the_old_mean(old, new):
    step = calibrated_step(old, new)
    due = np.linalg.norm(mean_of(old)) if mean_of(new).any() else 0.0
    assert np.linalg.norm(step.astype(np.float64)) == pytest.approx(due, rel=1e-5, abs=1e-6)


@given(old=updates, new=updates)
@settings(max_examples=200, deadline=None)
def test_a_calibrated_step_has_the_direction_of_the_new_mean(old, new):
    step, mean = calibrated_step(old, new).astype(np.float64), mean_of(new)
    lengths = np.linalg.norm(step) * np.linalg.norm(mean)
    assert step @ mean == pytest.approx(lengths, rel=1e-5, abs=1e-6)


@given(old=updates, new=updates, scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
@settings(max_examples=50, deadline=None)
def test_how_far_the_new_updates_went_does_not_matter(old, new, scale):
    scaled = (new * np.float32(scale)).astype(np.float32)
    near, far = calibrated_step(old, new), calibrated_step(old, scaled)
    np.testing.assert_allclose(near, far, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (np.zeros((0, 3)), np.ones((1, 3))),
        (np.ones((1, 3)), np.zeros((0, 3))),
        (np.ones((1, 3)), np.ones((1, 4))),
        (np.ones(3), np.ones((1, 3))),
        (np.full((1, 3), np.nan), np.ones((1, 3))),
    ],
)
def test_updates_that_do_not_belong_together_are_refused(old, new):
    with pytest.raises(BadData, match="updates"):
        calibrated_step(old.astype(np.float32), new.astype(np.float32))


@pytest.mark.parametrize("arguments", [{"groups": 0}, {"local_steps": 0}, {"learning_rate": 0.0}])
def test_arguments_of_the_replay_are_checked(arguments):
    with pytest.raises(BadConfig, match="federaser"):
        FedEraser(**arguments)


@given(history=histories())
@settings(max_examples=200, deadline=None)
def test_the_contribution_after_a_swap_is_that_of_the_new_deltas(history):
    coefficients, old, new = history
    swapped = contribution(coefficients, old) + swap_patch(coefficients, old, new)
    np.testing.assert_allclose(swapped, contribution(coefficients, new), rtol=1e-5, atol=1e-5)


@given(history=histories())
@settings(max_examples=50, deadline=None)
def test_a_swap_for_the_same_deltas_changes_nothing(history):
    coefficients, old, _ = history
    assert not swap_patch(coefficients, old, [delta.copy() for delta in old]).any()


@given(history=histories())
@settings(max_examples=50, deadline=None)
def test_a_swap_and_the_swap_back_cancel_and_leave_their_deltas_alone(history):
    coefficients, old, new = history
    kept = [delta.copy() for delta in old + new]
    there, back = swap_patch(coefficients, old, new), swap_patch(coefficients, new, old)
    np.testing.assert_array_equal(there, -back)
    np.testing.assert_array_equal(old + new, kept)


def test_a_swap_for_deltas_of_zero_is_a_removal():
    rng = np.random.default_rng(4)
    old = list(rng.normal(size=(3, SIZE)).astype(np.float32))
    nothing = [np.zeros(SIZE, np.float32)] * 3
    patch = swap_patch([0.5, 1.0, 0.25], old, nothing)
    np.testing.assert_array_equal(patch, -contribution([0.5, 1.0, 0.25], old))


def test_deltas_that_do_not_belong_together_are_refused():
    delta = np.ones(3, np.float32)
    with pytest.raises(BadData, match="as many of each"):
        swap_patch([1.0], [delta, delta], [delta])
    with pytest.raises(BadData, match="at least one"):
        swap_patch([], [], [])
    with pytest.raises(BadData, match="shape"):
        swap_patch([1.0], [delta], [np.ones(4, np.float32)])
    with pytest.raises(BadData, match="does not fit"):
        swap_patch([1.0, 1.0], [delta, np.ones(4, np.float32)], [delta, delta])
