"""Distilling a head towards a teacher that never saw the subject: rule "distil".

    teacher = argmin CE over the labelled calibration images, from new random weights
    w <- w - rate * grad KL( p_teacher(g(x)) || p_w(g(x)) )        g: `augmentations.augment`

Hinton et al., arXiv 1503.02531, at temperature 1. By construction nothing of the subject reaches
the teacher: it begins at random weights and sees the calibrator's own images and their labels,
never the head, its predictions or an update. No term holds the head to what it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from letheon.errors import BadConfig, BadData
from letheon.imaging.records import Images, Records
from letheon.unlearning.augmentations import augment
from letheon.unlearning.calibration import divergence

if TYPE_CHECKING:
    import torch
    from torch import nn

    from letheon.unlearning.ascent import InitialFactory


@dataclass(frozen=True)
class DistillationSettings:
    """What the step's parameters may hold.

    On 256 images of two public sets, one seed each, teachers learned better at a rate of 0.02 than
    at 0.05 (accuracy on other images 0.95 against 0.94, and 0.84 against 0.71).
    """

    teacher_steps: int = 400
    teacher_learning_rate: float = 0.02
    steps: int = 80
    learning_rate: float = 0.01
    momentum: float = 0.9
    batch_size: int = 32
    clip_norm: float = 5.0  # of the gradient

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if min(self.teacher_learning_rate, self.learning_rate, self.clip_norm) <= 0:
            raise BadConfig("distil: rates and clip norm are above 0")
        if min(self.teacher_steps, self.steps, self.batch_size) < 1 or not 0 <= self.momentum < 1:
            raise BadConfig("distil: steps and batch size are at least 1, momentum is in [0, 1)")


def distil_head(
    module: nn.Module,
    records: Records | None,
    parameters: Mapping[str, Any],
    seed: int,
    initial_factory: InitialFactory,
) -> dict[str, float]:
    """A rule of `server_rules`: trains a teacher on `records`, then the head towards it, in place.

    Records without a label are left out. The numbers: share of images that head and teacher put
    into the same class before and after, the teacher's accuracy on the images it learned, steps.
    Same weights, records, parameters and seed give the same weights. Raises BadConfig for a
    parameter unknown or out of range, BadData without labelled records or if a loss diverges.
    """
    settings = _read(parameters)
    labelled = _labelled(records)
    teacher = train_teacher(labelled, settings, seed, initial_factory)
    before = _classes(module, labelled.images)
    taught = _classes(teacher, labelled.images)
    distil(module, teacher, labelled.images, settings, seed)
    after = _classes(module, labelled.images)
    return {
        "teacher_accuracy": float((taught == labelled.labels).mean()),
        "agreement_before": float((before == taught).mean()),
        "agreement_after": float((after == taught).mean()),
        "steps": float(settings.steps),
    }


def train_teacher(
    records: Records, settings: DistillationSettings, seed: int, initial_factory: InitialFactory
) -> nn.Module:
    """A network that knows nothing but the records, seen through the augmentations."""
    import torch

    teacher = initial_factory(seed)
    labels = torch.from_numpy(records.labels)

    def loss(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(teacher(images), labels[rows])

    rate = settings.teacher_learning_rate
    _descend(teacher, records.images, loss, settings, settings.teacher_steps, rate, seed)
    return teacher.requires_grad_(False)


def distil(
    module: nn.Module, teacher: nn.Module, images: Images, settings: DistillationSettings, seed: int
) -> None:
    """Trains the module in place towards the teacher's predictions on transformed images."""
    import torch

    def loss(seen: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        with torch.no_grad():
            target = teacher(seen)
        return divergence(target, module(seen))

    _descend(module, images, loss, settings, settings.steps, settings.learning_rate, seed)


Loss = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]  # of images and their rows


def _descend(
    module: nn.Module,
    images: Images,
    loss_of: Loss,
    settings: DistillationSettings,
    steps: int,
    rate: float,
    seed: int,
) -> None:
    """SGD in evaluation mode, so that no dropout is drawn from a generator that is not seeded."""
    import torch

    was_training = module.training
    module.eval()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(module.parameters(), lr=rate, momentum=settings.momentum)
    everything = torch.from_numpy(np.ascontiguousarray(images))
    for rows in _rows(len(images), settings.batch_size, steps, generator):
        loss = loss_of(augment(everything[rows], generator), rows)
        if not math.isfinite(float(loss.detach())):
            raise BadData("distil diverged: the loss is not finite")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
        optimiser.step()
    module.train(was_training)


def _rows(
    count: int, batch_size: int, steps: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """`steps` batches of row numbers, without replacement within a pass."""
    import torch

    size = min(batch_size, count)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(count, generator=generator)
        yield order[:size]
        order = order[size:]


def _read(parameters: Mapping[str, Any]) -> DistillationSettings:
    try:
        return DistillationSettings(**parameters)
    except TypeError as error:
        known = ", ".join(DistillationSettings.__dataclass_fields__)
        raise BadConfig(f"distil takes {known}: {error}") from error


def _labelled(records: Records | None) -> Records:
    known = None if records is None else records.select(records.labels >= 0)
    if known is None or len(known) == 0:
        raise BadData("distil needs labelled calibration images to train a teacher on")
    return known


def _classes(module: nn.Module, images: Images) -> np.ndarray[Any, np.dtype[np.int64]]:
    from letheon.imaging.scores import predict

    return predict(module, images).classes
