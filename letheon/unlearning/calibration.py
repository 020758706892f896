"""Invariance calibration: predictions on clean and transformed proxy images are made to agree.

    L(w) = KL( stopgrad p_w(x) || p_w(g(x)) ) + a * KL( p_head(x) || p_w(x) )

The first term is that of AFU-IC (arXiv 2604.26809) with a family g fixed beforehand instead of the
attacker's own trigger, which only the laboratory may pass. On its own it has a trivial optimum, a
constant predictor; the second term anchors the clean predictions to those of the head at the
start of the round. The authors' code has no such term (a = 0).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig, BadData
from letheon.unlearning.augmentations import Transformation, augment

if TYPE_CHECKING:
    import torch
    from torch import nn

FAMILY_TRANSFORM = "family"
PROBE_TRANSFORM = "probe"  # the attacker's own trigger: known in the laboratory only

_CHECK_BATCH = 256
_CHECK_IMAGES = 512  # enough to see the terms before and after


@dataclass(frozen=True)
class CalibrationSettings:
    """One round. Rate, momentum and batch are those of the authors' code."""

    learning_rate: float = 2e-3
    momentum: float = 0.9
    batch_size: int = 64
    epochs: int = 1
    invariance_weight: float = 1.0
    anchor_weight: float = 1.0
    clip_norm: float = 5.0  # of the gradient

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if min(self.learning_rate, self.clip_norm) <= 0:
            raise BadConfig("calibration: rate and clip norm are above 0")
        if min(self.batch_size, self.epochs) < 1:
            raise BadConfig("calibration: batch size and epochs are at least 1")
        weights = (self.invariance_weight, self.anchor_weight)
        if min(weights) < 0 or max(weights) == 0:
            raise BadConfig("calibration: no weight is below 0, and one is above")


@dataclass(frozen=True)
class CalibrationOutcome:
    """What one round did; the weights are in the module."""

    steps: int
    invariance_before: float  # mean KL, nats, on the same transformed images
    invariance_after: float
    anchor_after: float  # mean KL of clean predictions to those of the head


def read_parameters(parameters: Mapping[str, Any]) -> tuple[CalibrationSettings, str]:
    """Settings and transform of a round, as a method's step names them.

    The transform is "family", the augmentations fixed beforehand, unless `parameters` say "probe".
    Raises BadConfig for a parameter unknown or out of range.
    """
    transform = parameters.get("transform", FAMILY_TRANSFORM)
    if transform not in (FAMILY_TRANSFORM, PROBE_TRANSFORM):
        raise BadConfig(f"calibration: transform is family or probe, not {transform!r}")
    rest = {name: value for name, value in parameters.items() if name != "transform"}
    try:
        return CalibrationSettings(**rest), transform
    except TypeError as error:
        known = ", ".join(["transform", *CalibrationSettings.__dataclass_fields__])
        raise BadConfig(f"calibration takes {known}: {error}") from error


def calibrate(
    module: nn.Module,
    images: npt.NDArray[np.float32],
    settings: CalibrationSettings,
    seed: int,
    transform: Transformation = augment,
) -> CalibrationOutcome:
    """Runs one round in place on `images` [n, channels, height, width] in [0, 1].

    `transform` is g: images and a generator to images of the same shape and range. Evaluation
    mode throughout: no dropout, no running statistics. Same weights, images and seed give the
    same weights. Raises BadData without images, or if a loss is not finite.
    """
    import torch

    if len(images) == 0:
        raise BadData("there are no images to calibrate on")
    was_training = module.training
    module.eval()
    head = copy.deepcopy(module).requires_grad_(False)
    before, _ = _measure(module, head, images, seed, transform)
    optimiser = torch.optim.SGD(
        module.parameters(), lr=settings.learning_rate, momentum=settings.momentum
    )
    generator = torch.Generator().manual_seed(seed)
    steps = 0
    for batch in _batches(images, settings, generator):
        loss = _loss(module, head, batch, transform(batch, generator), settings)
        if not math.isfinite(float(loss.detach())):
            raise BadData("calibration diverged: the loss is not finite")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
        optimiser.step()
        steps += 1
    after, anchor = _measure(module, head, images, seed, transform)
    module.train(was_training)
    return CalibrationOutcome(steps, before, after, anchor)


def _batches(
    images: npt.NDArray[np.float32], settings: CalibrationSettings, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    import torch

    everything = torch.from_numpy(np.ascontiguousarray(images))
    for _ in range(settings.epochs):
        order = torch.randperm(len(images), generator=generator)
        for rows in torch.split(order, settings.batch_size):
            yield everything[rows]


def _loss(
    module: nn.Module,
    head: nn.Module,
    clean: torch.Tensor,
    transformed: torch.Tensor,
    settings: CalibrationSettings,
) -> torch.Tensor:
    import torch

    logits = module(clean)
    with torch.no_grad():
        anchor = head(clean)
    # The teacher is the same, current model; no gradient flows through it.
    invariance = divergence(logits.detach(), module(transformed))
    return settings.invariance_weight * invariance + settings.anchor_weight * divergence(
        anchor, logits
    )


def divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Mean KL(teacher || student) over the batch, nats; both are logits [n, classes]."""
    from torch.nn import functional

    return functional.kl_div(
        functional.log_softmax(student, dim=1),
        functional.log_softmax(teacher, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def _measure(
    module: nn.Module,
    head: nn.Module,
    images: npt.NDArray[np.float32],
    seed: int,
    transform: Transformation,
) -> tuple[float, float]:
    """Both terms on the first images, transformed alike at every call with this seed."""
    import torch

    generator = torch.Generator().manual_seed(seed + 1)
    some = torch.from_numpy(np.ascontiguousarray(images[:_CHECK_IMAGES]))
    invariance = anchor = 0.0
    with torch.no_grad():
        for batch in torch.split(some, _CHECK_BATCH):
            clean = module(batch)
            transformed = module(transform(batch, generator))
            invariance += float(divergence(clean, transformed)) * len(batch)
            anchor += float(divergence(head(batch), clean)) * len(batch)
    return invariance / len(some), anchor / len(some)
