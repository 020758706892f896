import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from letheon.errors import BadConfig, BadData
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.records import Records
from letheon.unlearning.recombination import add_share, fit, read_settings, recombine

QUICK = {"steps": 12, "batch_size": 32}


def bars(seed: int = 0, count: int = 64) -> Records:
    """A bright bar above or below the middle, in noise."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.0, 0.6, (count, 1, 12, 12)).astype(np.float32)
    labels = (np.arange(count) % 2).astype(np.int64)
    for image, place in zip(images, labels, strict=True):
        image[0, 1 + 6 * place : 4 + 6 * place, :] += 0.3
    return Records(images, labels, tuple(f"r{i}" for i in range(count)), None, ("above", "below"))


def a_network(seed: int = 0) -> nn.Module:
    return initialise("small_cnn", {"width": 4}, ImageSpec(1, 12, 12), 2, seed)


def vector(module: nn.Module) -> np.ndarray:
    return np.concatenate([array.ravel() for array in read_weights(module).values()])


def sizes(module: nn.Module) -> list[int]:
    return [array.size for array in read_weights(module).values()]


def some_parts(count: int, seed: int, scale: float = 0.05) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = vector(a_network()).shape
    return [(scale * rng.standard_normal(shape)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def records():
    return bars()


@given(count=st.integers(1, 4), seed=st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_each_tensor_changes_in_the_span_of_what_the_parts_have_there(count, seed):
    module = a_network(seed)
    before, parts = vector(module), some_parts(count, seed)
    recombine(module, parts, bars(), {**QUICK, "steps": 4}, seed)
    change, start = vector(module).astype(np.float64) - before, 0
    for size in sizes(module):
        basis = np.stack([part[start : start + size] for part in parts], axis=1).astype(np.float64)
        here = change[start : start + size]
        found, *_ = np.linalg.lstsq(basis, here, rcond=None)
        assert np.linalg.norm(here - basis @ found) <= 1e-4 * max(np.linalg.norm(here), 1e-3)
        start += size


@given(count=st.integers(1, 4), seed=st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_the_shares_of_the_parts_sum_to_the_change(count, seed):
    module = a_network(seed)
    before, parts = vector(module), some_parts(count, seed)
    fitted = fit(module, parts, bars(), {**QUICK, "steps": 4}, seed)
    total = np.zeros_like(before)
    for part, factors in zip(parts, fitted.factors, strict=True):
        share = np.zeros_like(before)
        add_share(share, part, factors, sizes(module))
        total += share
    np.testing.assert_allclose(before + total, vector(module), atol=1e-5)


def test_factors_of_one_share_nothing():
    part, share = some_parts(1, 3)[0], np.zeros_like(some_parts(1, 3)[0])
    add_share(share, part, np.ones(len(sizes(a_network())), np.float32), sizes(a_network()))
    assert not share.any()


def test_a_head_pushed_away_by_one_part_finds_back(records):
    trained, rng = a_network(), np.random.default_rng(1)
    optimiser = torch.optim.Adam(trained.parameters(), lr=0.02)
    for _ in range(40):
        images, labels = torch.from_numpy(records.images), torch.from_numpy(records.labels)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(trained(images), labels).backward()
        optimiser.step()
    good = vector(trained)
    away = (0.5 * rng.standard_normal(good.shape)).astype(np.float32)
    with torch.no_grad():
        start = 0
        for weight in trained.parameters():
            piece = torch.from_numpy(away[start : start + weight.numel()])
            weight.add_(piece.reshape(weight.shape))
            start += weight.numel()
    numbers = recombine(trained, [away], records, {"steps": 60, "learning_rate": 0.1}, 1)
    assert numbers["loss_after"] < numbers["loss_before"] / 2
    assert numbers["parts"] == 1.0
    assert numbers["smallest_factor"] < 1.0  # the part is taken back


def test_the_same_arguments_give_the_same_weights(records):
    parts, made = some_parts(2, 5), []
    for noise in (1, 2):
        torch.manual_seed(noise)  # of no use to it
        module = a_network()
        recombine(module, parts, records, QUICK, 7)
        made.append(vector(module))
    np.testing.assert_array_equal(*made)
    other = a_network()
    recombine(other, parts, records, QUICK, 8)
    assert not np.array_equal(made[0], vector(other))


@pytest.mark.parametrize("training", [False, True])
def test_neither_the_parts_nor_the_mode_nor_the_gradients_are_touched(records, training):
    module, parts = a_network(), some_parts(2, 5)
    kept = copy.deepcopy(parts)
    module.train(training)
    recombine(module, parts, records, QUICK, 1)
    assert module.training is training
    assert all(weight.requires_grad and weight.grad is None for weight in module.parameters())
    np.testing.assert_array_equal(parts, kept)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [({"speed": 1}, "speed"), ({"steps": 0}, "steps"), ({"learning_rate": 0.0}, "rate")],
)
def test_a_parameter_that_it_does_not_take_is_named(parameters, name):
    with pytest.raises(BadConfig, match=name):
        read_settings(parameters)


def test_without_images_or_parts_it_says_what_is_missing(records):
    with pytest.raises(BadData, match="calibration images"):
        recombine(a_network(), some_parts(1, 1), None, QUICK, 1)
    with pytest.raises(BadData, match="sites that stay"):
        recombine(a_network(), [], records, QUICK, 1)
    with pytest.raises(BadData, match="do not fit"):
        recombine(a_network(), [np.zeros(3, np.float32)], records, QUICK, 1)
