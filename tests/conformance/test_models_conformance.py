"""What every registered network keeps to."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from task_builders import some_records
from torch import nn

from letheon import registry
from letheon.errors import BadConfig, MalformedUpdate, UnknownPlugin
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import ImageSpec, Spec, TableSpec
from letheon.imaging.models.weights import initialise, read_weights, write_weights
from letheon.imaging.records import Records
from letheon.imaging.sources.synthetic import SyntheticSource
from letheon.imaging.tasks.task import build_task, check_network

IMAGES = [(ImageSpec(1, 28, 28), 2), (ImageSpec(3, 32, 48), 5)]
VOLUMES = [(ImageSpec(1, 16, 16, depth=8), 2), (ImageSpec(2, 24, 16, depth=20), 3)]
# What a network is made for, where that is not to classify images: specs and the task.
KINDS: dict[str, tuple[list[tuple[Spec, int]], str]] = {
    "mlp": ([(TableSpec(5), 2), (TableSpec(40), 5)], "tabular"),
    "small_cnn_3d": (VOLUMES, "classification"),
    "monai_unet": ([(ImageSpec(1, 16, 16), 2), VOLUMES[1]], "segmentation"),
}


def specs(name: str) -> list[tuple[Spec, int]]:
    return KINDS.get(name, (IMAGES, ""))[0]


def task_of(name: str) -> str:
    return KINDS.get(name, ([], "classification"))[1]


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
    return initialise(name, {}, *specs(name)[0], seed=0)


@pytest.fixture
def images(name: str) -> torch.Tensor:
    return some_images(specs(name)[0][0], 8)


def some_images(spec: Spec, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *spec.shape, generator=generator)


@pytest.mark.parametrize("which", [0, 1])
def test_records_become_what_the_task_wants(name: str, which: int) -> None:
    spec, classes = specs(name)[which]
    task, module = build_task(task_of(name), {}), initialise(name, {}, spec, classes, 0)
    check_network(module, task, spec.shape, classes)
    logits = module(some_images(spec))
    assert logits.shape == (3, *task.output_shape(spec.shape, classes))
    assert torch.isfinite(logits).all()


def test_the_whole_state_is_float32_parameters(module: nn.Module) -> None:
    assert set(module.state_dict()) == set(read_weights(module))
    assert {weights.dtype for weights in read_weights(module).values()} == {np.dtype(np.float32)}


def test_initial_weights_hang_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = read_weights(initialise(name, {}, *specs(name)[0], seed=7))
    state = torch.get_rng_state()
    second = read_weights(initialise(name, {}, *specs(name)[0], seed=7))
    other = read_weights(initialise(name, {}, *specs(name)[0], seed=8))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(first) == list(second)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert not all(np.array_equal(first[key], other[key]) for key in first)


def test_weights_written_to_another_network_make_it_the_same(
    name: str, module: nn.Module, images: torch.Tensor
) -> None:
    other = initialise(name, {}, *specs(name)[0], seed=9)
    weights = read_weights(module)
    for array in weights.values():
        array.flags.writeable = False
    write_weights(other, weights)
    back = read_weights(other)
    assert all(np.array_equal(back[key], weights[key]) for key in weights)
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


def test_every_parameter_gets_a_gradient(module: nn.Module, images: torch.Tensor) -> None:
    logits = module(images)
    labels = torch.arange(logits[:, 0].numel()).reshape(logits[:, 0].shape) % logits.shape[1]
    nn.functional.cross_entropy(logits, labels).backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_an_answer_does_not_hang_on_the_rest_of_the_batch(
    module: nn.Module, images: torch.Tensor
) -> None:
    with torch.no_grad():
        for mode in (True, False):
            module.train(mode)
            together, alone = module(images), module(images[:1])
            torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_training_is_reproducible_and_lowers_the_loss(name: str) -> None:
    records, task = to_learn(name), build_task(task_of(name), {})
    settings = LocalTraining(steps=8, batch_size=16)
    modules = [initialise(name, {}, *specs(name)[0], seed=0) for _ in range(2)]
    outcomes = [
        train_locally(module, records, settings, seed=1, loss_of=task.loss) for module in modules
    ]
    assert outcomes[0] == outcomes[1]
    first, second = (read_weights(module) for module in modules)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    before = task.judge_records(modules[0], records)[0].mean()
    longer = LocalTraining(steps=40, learning_rate=0.02)
    train_locally(modules[0], records, longer, seed=2, loss_of=task.loss)
    assert task.judge_records(modules[0], records)[0].mean() < before


def to_learn(name: str) -> Records:
    if name not in KINDS:
        return SyntheticSource(32, 2, 1, 28, 28).load()
    return some_records(task_of(name), 32, volumes=name == "small_cnn_3d")


def test_an_unknown_argument_is_refused(name: str) -> None:
    with pytest.raises(BadConfig, match=name):
        initialise(name, {"speling": 1}, *specs(name)[0], seed=0)


def test_images_too_small_are_refused(name: str) -> None:
    spec = specs(name)[0][0]
    if not isinstance(spec, ImageSpec):
        pytest.skip("it takes no images")
    with pytest.raises(BadConfig, match="too small"):
        initialise(name, {}, replace(spec, height=3), 2, seed=0)


def test_records_of_another_kind_are_refused(name: str) -> None:
    other = ImageSpec(1, 28, 28) if name == "mlp" else TableSpec(5)
    with pytest.raises(BadConfig, match=f"{name}.*it takes a"):
        initialise(name, {}, other, 2, seed=0)


def test_shape_and_classes_come_from_the_plan_only(name: str) -> None:
    with pytest.raises(BadConfig, match="classes"):
        initialise(name, {"classes": 3}, *specs(name)[0], seed=0)


def test_an_unknown_network_is_refused_naming_the_known() -> None:
    with pytest.raises(UnknownPlugin, match="small_cnn"):
        initialise("resnet9000", {}, *IMAGES[0], seed=0)


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
        initialise("another", {}, *IMAGES[0], seed=0)
