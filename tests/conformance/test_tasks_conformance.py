"""What every registered task keeps to."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from task_builders import some_records
from torch import nn

from letheon import registry
from letheon.errors import BadConfig, BadData, UnknownPlugin
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.records import Records
from letheon.imaging.tasks.task import Task, build_task, check_network
from letheon.unlearning.evidence.forgetting import forget_statistic

CLASSES = 2


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=registry.names(registry.TASKS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def task(name: str) -> Task:
    return build_task(name, {})


@pytest.fixture
def records(name: str) -> Records:
    return some_records(name)


def shape_of(records: Records) -> tuple[int, ...]:
    return tuple(records.images.shape[1:])


class Pixelwise(nn.Module):
    """Two 3x3 convolutions: an answer for each pixel, or for the image."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, CLASSES, 3, padding=1)
        self.dense = dense

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.second(torch.relu(self.first(images)))
        return answer if self.dense else answer.amax(dim=(2, 3))


def network(name: str, records: Records) -> nn.Module:
    torch.manual_seed(0)
    if name == "tabular":
        return nn.Linear(records.images.shape[1], CLASSES)
    return Pixelwise(dense=name == "segmentation")


class Broken(nn.Module):
    """Answers NaN."""

    def __init__(self, name: str, records: Records) -> None:
        super().__init__()
        self.inner = network(name, records)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.inner(images) * torch.nan
        return answer


def test_its_records_fit_and_its_network_answers_them(
    name: str, task: Task, records: Records
) -> None:
    shape = shape_of(records)
    task.check_fit(records, shape=shape, classes=CLASSES, class_names=records.class_names)
    check_network(network(name, records), task, shape, CLASSES)


def test_the_loss_falls_and_the_score_rises_by_training(
    name: str, task: Task, records: Records
) -> None:
    module = network(name, records)
    before = task.utility(module, records)
    settings = LocalTraining(steps=60, batch_size=12, learning_rate=0.1)
    train_locally(module, records, settings, seed=1, loss_of=task.loss)
    after = task.utility(module, records)
    assert after.mean_loss < before.mean_loss
    assert after.accuracy > before.accuracy
    assert after.records == len(records)


def test_the_loss_of_a_batch_is_differentiable(name: str, task: Task, records: Records) -> None:
    outputs = network(name, records)(torch.from_numpy(records.images[:6]))
    outputs.retain_grad()
    task.loss(outputs, torch.from_numpy(records.labels[:6])).backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_losses_of_records_are_those_of_batches_of_one(
    name: str, task: Task, records: Records
) -> None:
    module = network(name, records).eval()
    losses, right = task.judge_records(module, records)
    assert losses.shape == right.shape == (len(records),)
    assert losses.dtype == np.float64
    assert ((right >= 0) & (right <= 1)).all()
    with torch.no_grad():
        for row in (0, 1, 7):
            one = records.select([row])
            loss = task.loss(
                module(torch.from_numpy(one.images[:])), torch.from_numpy(one.labels[:])
            )
            assert losses[row] == pytest.approx(float(loss), rel=1e-4)


def test_a_broken_network_is_scored_as_right_about_nothing(
    name: str, task: Task, records: Records
) -> None:
    module = Broken(name, records)
    losses, right = task.judge_records(module, records)
    assert np.isfinite(losses).all()
    assert not np.asarray(right).any()
    utility = task.utility(module, records)
    assert 0.0 <= utility.accuracy <= 0.5
    assert np.isfinite(utility.mean_loss)


def test_its_losses_and_correctness_are_what_the_forget_statistic_takes(
    name: str, task: Task, records: Records
) -> None:
    module = network(name, records)
    losses, right = task.judge_records(module, records)
    halves = (losses[:12], losses[12:], right[:12], right[12:])
    statistic = forget_statistic(
        *halves, records.patients[:12], records.patients[12:], resamples=20, seed=0
    )
    assert 0.0 <= statistic.auc_low <= statistic.auc <= statistic.auc_high <= 1.0
    assert 0.0 <= statistic.accuracy_erased <= 1.0


def test_class_scores_are_named_and_lie_in_zero_to_one(
    name: str, task: Task, records: Records
) -> None:
    scores = task.class_scores(network(name, records), records)
    assert set(scores) <= set(records.class_names)
    assert all(0.0 <= score <= 1.0 for score in scores.values())


Damage = Callable[[Records], Records]


def test_no_records_and_another_shape_are_refused(name: str, task: Task, records: Records) -> None:
    shape = shape_of(records)
    with pytest.raises(BadData, match="no records"):
        task.check_fit(records.select([]), shape=shape, classes=CLASSES)
    with pytest.raises(BadData, match="the plan wants"):
        task.check_fit(records, shape=(*shape[:-1], shape[-1] + 1), classes=CLASSES)


def test_other_names_or_order_of_classes_are_refused(
    name: str, task: Task, records: Records
) -> None:
    with pytest.raises(BadData, match="order must agree"):
        task.check_fit(
            records,
            shape=shape_of(records),
            classes=CLASSES,
            class_names=records.class_names[::-1],
        )


def test_labels_of_another_task_are_refused(name: str, task: Task) -> None:
    other = some_records("classification" if name != "classification" else "segmentation")
    with pytest.raises((BadData, BadConfig)):
        task.check_fit(other, shape=shape_of(other), classes=CLASSES)


def test_a_network_that_answers_something_else_is_refused(
    name: str, task: Task, records: Records
) -> None:
    wrong = nn.Flatten()
    with pytest.raises(BadConfig, match="the task wants"):
        check_network(wrong, task, shape_of(records), CLASSES)


def test_an_unknown_task_is_refused_naming_the_known() -> None:
    with pytest.raises(UnknownPlugin, match="segmentation"):
        build_task("regression", {})
