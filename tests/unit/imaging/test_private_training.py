"""DP-SGD: what one unit can move is bounded, the noise is what was asked for, and it is secret."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from letheon.errors import BadConfig, BadData
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.private_training import (
    MOST_OF_A_UNIT,
    PrivateTraining,
    check_private,
    clipped_sums,
    train_privately,
    units_of,
)
from letheon.imaging.records import Records
from letheon.imaging.secret_random import SecretRandom

NETWORKS = {
    "small_cnn": ((1, 10, 10), {"width": 4}),
    "small_cnn_3d": ((1, 6, 6, 6), {"width": 4}),
    "mlp": ((5,), {}),
    "monai_densenet": ((1, 16, 16), {}),
    "monai_unet": ((1, 8, 8), {"channels": [4, 8]}),
}


def a_network(name: str, seed: int = 0) -> nn.Module:
    shape, arguments = NETWORKS[name]
    return initialise(name, arguments, spec_of(shape), 2, seed)


def some_records(
    count: int, shape: tuple[int, ...] = (1, 10, 10), seed: int = 0, patients: int | None = None
) -> Records:
    rng = np.random.default_rng(seed)
    return Records(
        images=rng.random((count, *shape)).astype(np.float32),
        labels=rng.integers(0, 2, count),
        record_ids=tuple(f"r{i}" for i in range(count)),
        patients=None if patients is None else tuple(f"p{i % patients}" for i in range(count)),
        class_names=("well", "sick"),
    )


def repeatable(seed: int) -> SecretRandom:
    return SecretRandom(np.random.default_rng(seed).bytes)


def everybody() -> SecretRandom:
    """Zero bits: each number is 0, so that every unit takes part; there is no noise to draw."""
    return SecretRandom(lambda count: b"\0" * count)


def one_step(**more: object) -> PrivateTraining:
    told = {
        "steps": 1,
        "batch_size": 8,
        "learning_rate": 1.0,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "clip_norm": 0.5,
        "noise_multiplier": 0.0,
    }
    return PrivateTraining(**{**told, **more})  # type: ignore[arg-type]


def moved(
    name: str, records: Records, told: PrivateTraining, chance: SecretRandom, unit: str = "record"
) -> np.ndarray:
    module = a_network(name)
    before = flat(module)
    loss = _pixelwise if name == "monai_unet" else nn.functional.cross_entropy
    train_privately(
        module, records, told, 3, loss_of=loss, units=units_of(records, unit), chance=chance
    )
    return flat(module) - before


def _pixelwise(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs.flatten(2).mean(dim=2), labels)


def flat(module: nn.Module) -> np.ndarray:
    return np.concatenate([value.ravel() for value in read_weights(module).values()])


@pytest.mark.parametrize("name", NETWORKS)
def test_one_record_more_moves_one_step_by_the_clip_norm_at_most(name: str) -> None:
    shape, _ = NETWORKS[name]
    records = some_records(9, shape)
    # An image far outside of what is usual has a gradient far beyond the clip norm.
    records.images[8] *= 100.0
    rate = 1.0  # all take part; the sum is over 8 expected of 8, and over 9 of 9
    fewer = records.select(np.arange(8))
    with_it = 9 * rate * moved(name, records, one_step(batch_size=9), everybody())
    without = 8 * rate * moved(name, fewer, one_step(), everybody())
    assert 0 < np.linalg.norm(with_it - without) <= 0.5 * (1 + 1e-4)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=6, max_size=6),
        min_size=1,
        max_size=6,
    ),
    clip=st.floats(1e-3, 1e3),
    data=st.data(),
)
def test_whatever_a_units_gradients_are_it_adds_no_more_than_the_clip_norm(
    values: list[list[float]], clip: float, data: st.DataObject
) -> None:
    rows = torch.tensor(values, dtype=torch.float32)
    members = torch.tensor(
        data.draw(st.lists(st.integers(0, 2), min_size=len(values), max_size=len(values)))
    )
    members = torch.unique(members, return_inverse=True)[1]
    last = int(members.max())
    own = members == last
    with_it = clipped_sums([rows[:, :4], rows[:, 4:].reshape(-1, 2, 1)], members, clip)
    alone = clipped_sums(
        [rows[own, :4], rows[own, 4:].reshape(-1, 2, 1)], torch.zeros(int(own.sum())).long(), clip
    )
    norm = math.sqrt(sum(float(each.double().square().sum()) for each in alone))
    assert norm <= clip * (1 + 1e-6)
    assert all(bool(torch.isfinite(each).all()) for each in with_it)


def test_a_patient_counts_once_however_many_records_there_are() -> None:
    records = some_records(40, patients=2)
    chance = repeatable(5)
    module = a_network("small_cnn")
    before = flat(module)
    told = one_step(batch_size=40, clip_norm=1e-3)
    train_privately(module, records, told, 0, units=units_of(records, "patient"), chance=chance)
    # Two patients, each no longer than the clip norm, over two expected.
    assert 0 < np.linalg.norm(flat(module) - before) <= 1e-3
    assert MOST_OF_A_UNIT < 20


def test_patients_that_are_not_known_cannot_be_protected() -> None:
    with pytest.raises(BadData, match="which patient"):
        units_of(some_records(4), "patient")


def test_without_clipping_and_noise_it_is_the_gradient_of_the_batch() -> None:
    records = some_records(8)
    found = moved("small_cnn", records, one_step(clip_norm=1e6), everybody())
    module = a_network("small_cnn")
    images, labels = torch.from_numpy(records.images), torch.from_numpy(records.labels)
    nn.functional.cross_entropy(module(images), labels).backward()
    expected = np.concatenate([p.grad.numpy().ravel() for p in module.parameters()])
    assert np.allclose(found, -expected, atol=1e-6)


def test_the_noise_of_a_step_has_the_variance_that_was_asked_for() -> None:
    # The clip norm is so small that nothing but noise is left. Four deviations of the variance's
    # own error, sqrt(2 / n): wrong once in 16,000 runs, and the bytes are fixed.
    records, module = some_records(8), a_network("small_cnn")
    before = flat(module)
    told = one_step(noise_multiplier=1e6, clip_norm=1e-6, learning_rate=8.0)
    train_privately(module, records, told, 0, chance=repeatable(1))
    drawn = flat(module).astype(np.float64) - before
    assert abs(drawn.var() - 1.0) < 4 * math.sqrt(2 / drawn.size)
    assert abs(drawn.mean()) < 4 / math.sqrt(drawn.size)


def test_gaussian_numbers_are_gaussian() -> None:
    found = repeatable(2).gaussian(100_001)
    assert len(found) == 100_001
    beyond = [float(np.mean(np.abs(found) > limit)) for limit in (1.0, 2.0, 3.0)]
    for share, expected in zip(beyond, (0.31731, 0.0455, 0.0027), strict=True):
        assert abs(share - expected) < 4 * math.sqrt(expected / found.size)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / math.sqrt(found.size)


def test_uniform_numbers_stay_below_one() -> None:
    assert SecretRandom(lambda count: b"\xff" * count).uniform(3).max() < 1.0
    assert np.isfinite(everybody().gaussian(5)).all()


def test_the_seed_that_the_coordinator_knows_says_nothing_of_batches_and_noise() -> None:
    records, told = some_records(30), one_step(noise_multiplier=1.0)
    first, second = (moved("small_cnn", records, told, SecretRandom()) for _ in range(2))
    assert not np.array_equal(first, second)


def test_steps_in_which_nobody_takes_part_add_noise_all_the_same() -> None:
    class Nobody(SecretRandom):
        def uniform(self, count: int) -> np.ndarray:
            return np.full(count, 0.99)

    module = a_network("small_cnn")
    before = flat(module)
    told = one_step(batch_size=1, noise_multiplier=1.0)
    outcome = train_privately(module, some_records(50), told, 0, chance=Nobody())
    assert math.isnan(outcome.mean_loss)
    assert outcome.steps == 1
    assert not np.array_equal(flat(module), before)


def test_a_network_that_mixes_the_records_of_a_batch_is_refused() -> None:
    for name in NETWORKS:
        check_private(a_network(name))
    mixing = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()
    )
    with pytest.raises(BadConfig, match=r"BatchNorm cannot support.*GroupNorm"):
        check_private(mixing)


def test_abandoned_between_two_steps() -> None:
    outcome = train_privately(
        a_network("mlp"), some_records(9, (5,)), one_step(steps=4), 0, lambda: True
    )
    assert (outcome.steps, outcome.abandoned) == (0, True)


def test_the_network_is_left_as_it_was_but_for_its_weights(tmp_path: Path) -> None:
    module = a_network("small_cnn")
    train_privately(module, some_records(9), one_step(), 0)
    inplace = [part.inplace for part in module.modules() if isinstance(part, nn.ReLU)]
    assert all(inplace)
    assert not any(hasattr(each, "grad_sample") for each in module.parameters())
