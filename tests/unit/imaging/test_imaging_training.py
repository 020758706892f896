import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from letheon.errors import BadData
from letheon.imaging.local_training import LocalTraining, batch_rows, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights, write_weights
from letheon.imaging.records import Records
from letheon.imaging.scores import utility
from letheon.imaging.sources.npz import NpzSource
from letheon.imaging.sources.synthetic import SyntheticSource

SMALL = LocalTraining(steps=4, batch_size=8)


@pytest.fixture(scope="module")
def records() -> Records:
    return SyntheticSource(60, 2, 1, 16, 16).load()


def network(records: Records, seed: int = 0) -> nn.Module:
    spec = ImageSpec(*records.images.shape[1:])
    return initialise("small_cnn", {"width": 8}, spec, len(records.class_names), seed)


def trained(records: Records, settings: LocalTraining, seed: int) -> np.ndarray:
    module = network(records)
    train_locally(module, records, settings, seed)
    return np.concatenate([weights.ravel() for weights in read_weights(module).values()])


def test_the_same_base_seed_and_records_give_the_same_delta(records: Records) -> None:
    np.testing.assert_array_equal(trained(records, SMALL, 3), trained(records, SMALL, 3))


@given(
    there=st.lists(st.booleans(), min_size=1, max_size=40),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_batches_without_some_records_are_those_of_then_less_these(
    there: list[bool], batch_size: int, seed: int
) -> None:
    places = np.where(there, np.cumsum(there) - 1, -1)
    left = np.flatnonzero(there)
    then = batch_rows(len(there), 9, batch_size, seed)
    now = batch_rows(len(left), 9, batch_size, seed, places)
    for before, after in zip(then, now, strict=True):
        assert left[after].tolist() == [row for row in before if there[row]]


def test_steps_of_which_nobody_is_left_change_nothing(records: Records) -> None:
    alone = records.select(np.arange(1))
    module, places = network(records), np.array([-1, -1, 0, -1])
    one_each = LocalTraining(steps=4, batch_size=1)
    outcome = train_locally(module, alone, one_each, 3, places=places)
    assert (outcome.steps, outcome.abandoned) == (4, False)
    once = network(records)
    train_locally(once, alone, LocalTraining(steps=1, batch_size=1), 3)
    for made_again, made in zip(
        read_weights(module).values(), read_weights(once).values(), strict=True
    ):
        np.testing.assert_array_equal(made_again, made)


def test_another_seed_gives_another_delta(records: Records) -> None:
    assert not np.array_equal(trained(records, SMALL, 3), trained(records, SMALL, 4))


def test_training_does_not_touch_the_global_random_state(records: Records) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_locally(network(records), records, SMALL, 1)
    assert torch.equal(torch.rand(3), expected)


def test_dropout_is_seeded_and_the_mode_is_left_as_it_was(records: Records) -> None:
    def once() -> dict[str, np.ndarray]:
        module = nn.Sequential(network(records), nn.Dropout(0.5)).eval()
        train_locally(module, records, SMALL, 1)
        assert not module.training
        return read_weights(module)

    first, second = once(), once()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_is_abandoned_between_two_steps(records: Records) -> None:
    answers = iter([False, False, True])
    outcome = train_locally(network(records), records, SMALL, 1, lambda: next(answers))
    assert outcome.abandoned
    assert outcome.steps == 2
    assert outcome.mean_loss > 0


def test_a_task_abandoned_at_once_changes_nothing(records: Records) -> None:
    module = network(records)
    before = read_weights(module)
    outcome = train_locally(module, records, SMALL, 1, lambda: True)
    assert outcome.steps == 0
    assert math.isnan(outcome.mean_loss)
    assert all(np.array_equal(before[name], now) for name, now in read_weights(module).items())


def test_abandonment_is_asked_for_before_every_step(records: Records) -> None:
    asked: list[int] = []
    outcome = train_locally(network(records), records, SMALL, 1, lambda: bool(asked.append(1)))
    assert len(asked) == outcome.steps == SMALL.steps
    assert not outcome.abandoned


def test_every_record_is_seen_once_before_any_is_seen_twice(records: Records) -> None:
    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2))
            self.seen: list[float] = []

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.seen += images.sum(dim=(1, 2, 3)).tolist()
            return self.bias.expand(len(images), 2)

    module = Noting()
    train_locally(module, records, LocalTraining(steps=6, batch_size=10), 0)
    assert len(set(module.seen)) == len(module.seen) == 60


def test_a_batch_is_never_larger_than_the_records(records: Records) -> None:
    outcome = train_locally(
        network(records), records.select([0, 1, 2]), LocalTraining(steps=3, batch_size=32), 0
    )
    assert outcome.steps == 3


def test_a_tight_clip_bounds_the_step(records: Records) -> None:
    settings = LocalTraining(steps=1, batch_size=8, learning_rate=1.0, momentum=0, clip_norm=1e-3)
    module = network(records)
    before = read_weights(module)
    train_locally(module, records, settings, 0)
    squares = [((now - before[name]) ** 2).sum() for name, now in read_weights(module).items()]
    assert math.sqrt(sum(squares)) <= 1.01e-3


def test_no_records_are_refused(records: Records) -> None:
    with pytest.raises(BadData, match="no records"):
        train_locally(network(records), records.select([]), SMALL, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"clip_norm": 0.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LocalTraining(**wrong)  # type: ignore[arg-type]


def test_a_small_network_learns_the_phantoms_in_seconds() -> None:
    train = SyntheticSource(800, 2, 1, 28, 28, seed=1).load()
    test = SyntheticSource(300, 2, 1, 28, 28, seed=2).load()
    module = initialise("small_cnn", {}, ImageSpec(1, 28, 28), 2, 0)
    before = utility(module, test)
    train_locally(module, train, LocalTraining(steps=200), 0)
    after = utility(module, test)
    assert before.accuracy < 0.7
    assert after.accuracy > 0.9
    assert after.mean_loss < before.mean_loss


def test_a_small_network_learns_real_chest_images(real_file: Callable[[str], Path]) -> None:
    path = real_file("pneumoniamnist/pneumoniamnist.npz")
    train, test = NpzSource(path, "train").load(), NpzSource(path, "validation").load()
    module = initialise("small_cnn", {}, ImageSpec(1, 28, 28), 2, 0)
    train_locally(module, train, LocalTraining(steps=300), 0)
    assert utility(module, test).accuracy > 0.85


def test_sixteen_steps_fit_in_a_quarter_second_of_one_core() -> None:
    records = SyntheticSource(128, 2, 1, 28, 28).load()
    module = initialise("small_cnn", {}, ImageSpec(1, 28, 28), 2, 0)
    train_locally(module, records, SMALL, 0)
    fastest = math.inf
    for seed in range(3):
        start = time.process_time()
        train_locally(module, records, LocalTraining(), seed)
        fastest = min(fastest, time.process_time() - start)
    # Measured 0.13 s; the bound of 0.25 s is doubled for slower machines.
    assert fastest < 0.5


def test_weights_of_another_network_are_refused_and_nothing_is_written(records: Records) -> None:
    module = network(records)
    before = read_weights(module)
    wrong = {name: np.ones_like(value) for name, value in before.items()}
    wrong["head.bias"] = np.ones(7, np.float32)
    with pytest.raises(Exception, match=r"head\.bias") as caught:
        write_weights(module, wrong)
    assert caught.value.facts == {"rule": "shape", "tensor": "head.bias"}  # type: ignore[attr-defined]
    del wrong["head.bias"]
    with pytest.raises(Exception, match=r"lack tensor head\.bias"):
        write_weights(module, wrong)
    with pytest.raises(Exception, match="unknown tensor extra"):
        write_weights(module, {**before, "extra": np.ones(1, np.float32)})
    assert all(np.array_equal(before[name], now) for name, now in read_weights(module).items())
