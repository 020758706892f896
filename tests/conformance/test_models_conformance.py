"""What every registered network keeps to."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from letheon import registry
from letheon.errors import BadConfig, MalformedUpdate, UnknownPlugin
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights, write_weights
from letheon.imaging.scores import record_losses
from letheon.imaging.sources.synthetic import SyntheticSource

SPECS = [(ImageSpec(1, 28, 28), 2), (ImageSpec(3, 32, 48), 5)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=registry.names(registry.MODELS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("monai"):
        pytest.importorskip("monai")
    return str(request.param)


@pytest.fixture
def module(name: str) -> nn.Module:
    return initialise(name, {}, *SPECS[0], seed=0)


def some_images(spec: ImageSpec, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, spec.channels, spec.height, spec.width, generator=generator)


@pytest.mark.parametrize(("spec", "classes"), SPECS)
def test_images_become_one_logit_for_each_class(name: str, spec: ImageSpec, classes: int) -> None:
    logits = initialise(name, {}, spec, classes, 0)(some_images(spec))
    assert logits.shape == (3, classes)
    assert torch.isfinite(logits).all()


def test_the_whole_state_is_float32_parameters(module: nn.Module) -> None:
    assert set(module.state_dict()) == set(read_weights(module))
    assert {weights.dtype for weights in read_weights(module).values()} == {np.dtype(np.float32)}


def test_initial_weights_hang_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = read_weights(initialise(name, {}, *SPECS[0], seed=7))
    state = torch.get_rng_state()
    second = read_weights(initialise(name, {}, *SPECS[0], seed=7))
    other = read_weights(initialise(name, {}, *SPECS[0], seed=8))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(first) == list(second)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert not all(np.array_equal(first[key], other[key]) for key in first)


def test_weights_written_to_another_network_make_it_the_same(name: str, module: nn.Module) -> None:
    other = initialise(name, {}, *SPECS[0], seed=9)
    weights = read_weights(module)
    for array in weights.values():
        array.flags.writeable = False
    write_weights(other, weights)
    back = read_weights(other)
    assert all(np.array_equal(back[key], weights[key]) for key in weights)
    images = some_images(SPECS[0][0])
    with torch.no_grad():
        assert torch.equal(module.eval()(images), other.eval()(images))


def test_weights_read_are_copies(module: nn.Module) -> None:
    before = read_weights(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert all(not np.array_equal(before[key], now) for key, now in read_weights(module).items())


def test_weights_with_a_tensor_missing_are_refused(module: nn.Module) -> None:
    weights = read_weights(module)
    weights.pop(next(iter(weights)))
    with pytest.raises(MalformedUpdate, match="lack tensor"):
        write_weights(module, weights)


def test_every_parameter_gets_a_gradient(module: nn.Module) -> None:
    spec, classes = SPECS[0]
    labels = torch.arange(8) % classes
    nn.functional.cross_entropy(module(some_images(spec, 8)), labels).backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_an_answer_does_not_hang_on_the_rest_of_the_batch(module: nn.Module) -> None:
    images = some_images(SPECS[0][0], 6)
    with torch.no_grad():
        for mode in (True, False):
            module.train(mode)
            together, alone = module(images), module(images[:1])
            torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_training_is_reproducible_and_lowers_the_loss(name: str) -> None:
    records = SyntheticSource(32, 2, 1, 28, 28).load()
    settings = LocalTraining(steps=8, batch_size=16)
    modules = [initialise(name, {}, *SPECS[0], seed=0) for _ in range(2)]
    outcomes = [train_locally(module, records, settings, seed=1) for module in modules]
    assert outcomes[0] == outcomes[1]
    first, second = (read_weights(module) for module in modules)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    before = record_losses(modules[0], records)[0].mean()
    train_locally(modules[0], records, LocalTraining(steps=40, learning_rate=0.02), seed=2)
    assert record_losses(modules[0], records)[0].mean() < before


def test_an_unknown_argument_is_refused(name: str) -> None:
    with pytest.raises(BadConfig, match=name):
        initialise(name, {"speling": 1}, *SPECS[0], seed=0)


def test_images_too_small_are_refused(name: str) -> None:
    with pytest.raises(BadConfig, match="too small"):
        initialise(name, {}, ImageSpec(1, 3, 28), 2, seed=0)


def test_shape_and_classes_come_from_the_plan_only(name: str) -> None:
    with pytest.raises(BadConfig, match="classes"):
        initialise(name, {"classes": 3}, *SPECS[0], seed=0)


def test_an_unknown_network_is_refused_naming_the_known() -> None:
    with pytest.raises(UnknownPlugin, match="small_cnn"):
        initialise("resnet9000", {}, *SPECS[0], seed=0)


def batch_norm(spec: ImageSpec, classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(spec.channels, classes, 3), nn.BatchNorm2d(classes))


def doubles(spec: ImageSpec, classes: int) -> nn.Module:
    return nn.Linear(spec.channels, classes, dtype=torch.float64)


def no_module(spec: ImageSpec, classes: int) -> object:
    return object()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [(batch_norm, "GroupNorm"), (doubles, "float32"), (no_module, "not a module")],
)
def test_a_network_with_other_state_is_refused(
    monkeypatch: pytest.MonkeyPatch, build: object, sentence: str
) -> None:
    monkeypatch.setattr(registry, "find", lambda group, name: build)
    with pytest.raises(BadConfig, match=sentence):
        initialise("another", {}, *SPECS[0], seed=0)
