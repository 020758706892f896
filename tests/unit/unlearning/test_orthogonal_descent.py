import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from letheon.errors import BadConfig, BadData
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.records import Records
from letheon.unlearning.orthogonal_descent import (
    MOST_ROWS,
    basis_of,
    descend_orthogonally,
    orthogonal_part,
    unlearning_cross_entropy,
)

SIZE = 20
floats = st.floats(-4, 4, width=32)
gradients = arrays.arrays(np.float32, (SIZE,), elements=floats)
deltas = st.integers(0, MOST_ROWS).flatmap(
    lambda k: arrays.arrays(np.float32, (k, SIZE), elements=floats)
)


def weights_of(module: nn.Module) -> np.ndarray:
    return np.concatenate([array.ravel() for array in read_weights(module).values()])


@pytest.fixture(scope="module")
def records():
    """A bright bar above or below the middle, in noise."""
    rng = np.random.default_rng(3)
    images = rng.uniform(0.0, 0.6, (64, 1, 16, 16)).astype(np.float32)
    bars_at = np.arange(64) % 2
    for image, place in zip(images, bars_at, strict=True):
        image[0, 3 + 7 * place : 6 + 7 * place, :] += 0.15
    # Some labels are wrong, so that no network becomes so sure that its gradient vanishes.
    labels = (bars_at ^ (rng.random(64) < 0.15)).astype(np.int64)
    return Records(images, labels, tuple(f"r{i}" for i in range(64)), None, ("above", "below"))


@pytest.fixture(scope="module")
def trained(records):
    torch.set_num_threads(1)
    module = initialise("small_cnn", {"width": 4}, ImageSpec(1, 16, 16), 2, 0)
    train_locally(module, records, LocalTraining(steps=40, batch_size=16), 1)
    return module


@pytest.fixture
def module(trained):
    return copy.deepcopy(trained)


@pytest.fixture(scope="module")
def retained(trained):
    size = len(weights_of(trained))
    return np.random.default_rng(8).normal(size=(5, size)).astype(np.float32)


@given(gradient=gradients, rows=deltas)
@settings(max_examples=200, deadline=None)
def test_the_direction_is_orthogonal_to_every_retained_delta(gradient, rows):
    direction = orthogonal_part(gradient, basis_of(rows))
    for row in rows.astype(np.float64):
        bound = 1e-4 * np.linalg.norm(direction) * np.linalg.norm(row)
        assert abs(direction @ row) <= bound + 1e-12


@given(gradient=gradients, rows=deltas)
@settings(max_examples=100, deadline=None)
def test_the_direction_is_as_long_as_the_gradient_and_never_against_it(gradient, rows):
    direction = orthogonal_part(gradient, basis_of(rows))
    length = np.linalg.norm(gradient.astype(np.float64))
    assert np.linalg.norm(direction) == pytest.approx(length) or not direction.any()
    assert direction @ gradient.astype(np.float64) >= -1e-9 * length**2


@given(gradient=gradients)
@settings(max_examples=30, deadline=None)
def test_without_retained_deltas_the_direction_is_the_gradient(gradient):
    direction = orthogonal_part(gradient, basis_of(np.zeros((2, SIZE), np.float32)))
    np.testing.assert_allclose(direction, gradient, rtol=1e-12)


def test_of_a_gradient_within_their_span_nothing_is_left():
    rows = np.random.default_rng(1).normal(size=(3, SIZE)).astype(np.float32)
    inside = (2 * rows[0] - rows[2]).astype(np.float32)
    assert not orthogonal_part(inside, basis_of(rows)).any()


def test_the_projection_is_that_of_the_pseudo_inverse():
    rng = np.random.default_rng(1)
    rows, gradient = rng.normal(size=(4, SIZE)), rng.normal(size=SIZE)
    expected = gradient - rows.T @ np.linalg.pinv(rows @ rows.T) @ rows @ gradient
    expected *= np.linalg.norm(gradient) / np.linalg.norm(expected)
    found = orthogonal_part(gradient.astype(np.float32), basis_of(rows.astype(np.float32)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(
    logits=arrays.arrays(np.float32, (5, 3), elements=st.floats(-200, 200, width=32)),
    labels=arrays.arrays(np.int64, (5,), elements=st.integers(0, 2)),
)
@settings(max_examples=100, deadline=None)
def test_the_unlearning_loss_is_bounded_and_its_gradient_finite(logits, labels):
    outputs = torch.tensor(logits, requires_grad=True)
    loss = unlearning_cross_entropy(outputs, torch.tensor(labels))
    loss.backward()
    assert 0 <= float(loss.detach()) <= math.log(2) + 1e-6
    assert torch.isfinite(outputs.grad).all()


def test_the_unlearning_loss_falls_as_the_label_becomes_unlikely():
    losses = [
        float(unlearning_cross_entropy(torch.tensor([[x, 0.0]]), torch.tensor([0])))
        for x in (6.0, 1.0, -1.0, -6.0)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] == pytest.approx(-math.log(1 - 0.5 / (1 + math.exp(-1.0))))


def test_the_patch_is_orthogonal_to_the_retained_deltas_and_unlearns(
    module, trained, records, retained
):
    outcome = descend_orthogonally(module, records, {"learning_rate": 0.05}, 4, retained)
    patch = weights_of(module).astype(np.float64) - weights_of(trained)
    for row in retained.astype(np.float64):
        cosine = patch @ row / np.linalg.norm(patch) / np.linalg.norm(row)
        assert abs(cosine) < 1e-5
    assert (outcome.steps, outcome.rank) == (30, 5)
    assert outcome.loss_after > outcome.loss_before


def test_only_the_last_deltas_count(module, trained, records, retained):
    many = np.concatenate([retained, -retained, retained[:, ::-1]])
    other = copy.deepcopy(trained)
    few = {"steps": 2}
    assert descend_orthogonally(module, records, few, 4, many) == descend_orthogonally(
        other, records, few, 4, many[-MOST_ROWS:]
    )
    np.testing.assert_array_equal(weights_of(module), weights_of(other))


def test_the_mode_of_the_network_is_left_as_it_was(module, records, retained):
    module.train()
    descend_orthogonally(module, records, {"steps": 1}, 4, retained[:0])
    assert module.training


def test_bad_input_of_the_descent_is_named(module, records, retained):
    kept = weights_of(module)
    for parameters in ({"speed": 1}, {"steps": 0}, {"learning_rate": 0.0}):
        with pytest.raises(BadConfig, match="orthogonal_descent"):
            descend_orthogonally(module, records, parameters, 4, retained)
    with pytest.raises(BadData, match="no records"):
        descend_orthogonally(module, records.select([]), {}, 4, retained)
    with pytest.raises(BadData, match="shape"):
        descend_orthogonally(module, records, {}, 4, retained[:, 1:])
    with pytest.raises(BadData, match="not finite"):
        descend_orthogonally(module, records, {}, 4, retained * np.float32(np.nan))
    np.testing.assert_array_equal(weights_of(module), kept)
