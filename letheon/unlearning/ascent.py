"""Projected gradient ascent: the target's part of AFU-IC, run by the subject's own agent.

From a reference model w_ref, steps of SGD on -CE over the records to erase, each projected back
into the L2 ball around w_ref with radius^2 = mean_j ||w_ref - w_rand_j||^2 / c over a few random
networks (Halimi et al., arXiv 2207.05521, whose code AFU-IC builds on; c = 9, 10 networks).

w_ref is the snapshot w_s itself ("head"), or what is left of it if w_s were the mean of N local
models and the subject's last one were taken out of that mean, as in Halimi et al. ("mean"):

    w_ref = N / (N - 1) * w_s - 1 / (N - 1) * w_T

An asynchronous head is no such mean: it is a sum of many weighted deltas, of which this takes out
about one. The ascent starts from w_ref either way, and its patch is counted from w_s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from letheon.errors import BadConfig, BadData
from letheon.federation.parameters import Vector
from letheon.imaging.records import Records
from letheon.unlearning.batches import draw_batches

if TYPE_CHECKING:
    import torch
    from torch import nn

InitialFactory = Callable[[int], "nn.Module"]  # seed -> network with fresh random weights

_BATCH = 32
_CHECK_BATCH = 256


@dataclass(frozen=True)
class AscentParameters:
    """What the task's `parameters_json` may hold."""

    learning_rate: float = 1e-3
    steps: int = 24
    momentum: float = 0.9
    clip_norm: float = 5.0  # of the gradient
    radius_divisor: float = 9.0
    random_networks: int = 10
    reference: str = "head"  # or "mean"
    sites: int = 0  # N of the mean, the subject among them

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if min(self.learning_rate, self.clip_norm, self.radius_divisor) <= 0:
            raise BadConfig("ascent: rate, clip norm and radius divisor are above 0")
        if min(self.steps, self.random_networks) < 1 or not 0 <= self.momentum < 1:
            raise BadConfig("ascent: steps and networks are at least 1, momentum is in [0, 1)")
        if self.reference not in ("head", "mean"):
            raise BadConfig(f"ascent: reference is head or mean, not {self.reference!r}")
        if self.reference == "mean" and self.sites < 2:
            raise BadConfig("ascent: the reference mean is one of at least 2 sites")


@dataclass(frozen=True)
class AscentOutcome:
    """What the ascent did; the weights are in the module."""

    steps: int
    loss_before: float  # mean cross-entropy of the snapshot over all records, nats
    loss_after: float


def ascend(
    module: nn.Module,
    records: Records,
    parameters: Mapping[str, Any],
    seed: int,
    initial_factory: InitialFactory,
    last_local: Vector | None = None,
) -> AscentOutcome:
    """Ascends in place from the snapshot in `module`; the patch is what the weights changed by.

    `last_local` [d]: the subject's last uploaded local model, in the order of the module's
    parameters; the reference "mean" needs it. Evaluation mode throughout, so that dropout does
    not add noise to the direction. Same weights, records, parameters and seed give the same
    weights. Raises BadData without records or for a `last_local` of another length, BadConfig
    for a parameter unknown or out of range or a mean without `last_local`.
    """
    import torch

    settings = _read(parameters)
    if len(records) == 0:
        raise BadData("there are no records to erase")
    was_training = module.training
    module.eval()
    weights = list(module.parameters())
    before = _mean_loss(module, records)
    reference = _reference(weights, settings, last_local)
    _write(weights, reference)
    radius = _radius(reference, settings, seed, initial_factory)
    optimiser = torch.optim.SGD(
        weights, lr=settings.learning_rate, momentum=settings.momentum, maximize=True
    )
    for images, labels in draw_batches(records, settings.steps, _BATCH, seed):
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm)
        optimiser.step()
        _project(weights, reference, radius)
    after = _mean_loss(module, records)
    module.train(was_training)
    return AscentOutcome(settings.steps, before, after)


def _read(parameters: Mapping[str, Any]) -> AscentParameters:
    try:
        return AscentParameters(**parameters)
    except TypeError as error:
        known = ", ".join(AscentParameters.__dataclass_fields__)
        raise BadConfig(f"ascent takes {known}: {error}") from error


def _reference(
    weights: list[nn.Parameter], settings: AscentParameters, last_local: Vector | None
) -> list[torch.Tensor]:
    import torch

    snapshot = [weight.detach().clone() for weight in weights]
    if settings.reference == "head":
        return snapshot
    if last_local is None:
        raise BadConfig(
            "ascent: the reference mean needs the subject's last uploaded local model, which is "
            "kept only in the simulator; take the reference head"
        )
    sizes = [weight.numel() for weight in weights]
    if last_local.shape != (sum(sizes),):
        raise BadData(f"the last local model has shape {last_local.shape}, not ({sum(sizes)},)")
    parts = torch.split(torch.tensor(last_local, dtype=torch.float32), sizes)
    return [
        origin + (origin - part.view_as(origin)) / (settings.sites - 1)
        for origin, part in zip(snapshot, parts, strict=True)
    ]


def _write(weights: list[nn.Parameter], values: list[torch.Tensor]) -> None:
    import torch

    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


def _radius(
    reference: list[torch.Tensor],
    settings: AscentParameters,
    seed: int,
    initial_factory: InitialFactory,
) -> float:
    squares = [
        _squared_distance(list(initial_factory(seed + index).parameters()), reference)
        for index in range(settings.random_networks)
    ]
    return math.sqrt(sum(squares) / len(squares) / settings.radius_divisor)


def _squared_distance(weights: list[nn.Parameter], reference: list[torch.Tensor]) -> float:
    """Accumulated in float64: differences of many small terms."""
    return sum(
        float((weight.detach().double() - origin.double()).square().sum())
        for weight, origin in zip(weights, reference, strict=True)
    )


def _project(weights: list[nn.Parameter], reference: list[torch.Tensor], radius: float) -> None:
    distance = math.sqrt(_squared_distance(weights, reference))
    if distance <= radius:
        return
    share = radius / distance
    pairs = zip(weights, reference, strict=True)
    _write(weights, [origin + share * (weight.detach() - origin) for weight, origin in pairs])


def _mean_loss(module: nn.Module, records: Records) -> float:
    import torch

    total = 0.0
    with torch.no_grad():
        for start in range(0, len(records), _CHECK_BATCH):
            rows = slice(start, start + _CHECK_BATCH)
            labels = torch.from_numpy(records.labels[rows])
            logits = module(torch.from_numpy(records.images[rows]))
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return total / len(records)
