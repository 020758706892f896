"""Local steps under differential privacy: DP-SGD (Abadi et al., CCS 2016; arXiv 1607.00133).

A unit is what is protected: a record, or a patient with all records. In each step every unit takes
part with the same probability, by chance that is secret; its gradient is clipped, the clipped ones
are summed, and noise is added that is as large for a step in which nobody takes part. Gradients of
single records are Opacus's (arXiv 2109.12298).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from letheon.errors import BadConfig, BadData
from letheon.imaging.local_training import Loss, TrainingOutcome, reproducible
from letheon.imaging.privacy_accounting import NOT_INSTALLED
from letheon.imaging.records import Indices, Records
from letheon.imaging.secret_random import SecretRandom

# Gradients held at once: so many values of float32, of so many records.
_VALUES_AT_ONCE, _FEWEST_AT_ONCE, _MOST_AT_ONCE = 1 << 24, 8, 256
MOST_OF_A_UNIT = 16
"""Records of one unit that take part in one step, drawn anew each time."""


@dataclass(frozen=True)
class PrivateTraining:
    """Settings of the optimiser and of the mechanism."""

    steps: int
    batch_size: int  # records, expected of one step
    learning_rate: float
    momentum: float
    weight_decay: float
    clip_norm: float  # of a unit's gradient, L2
    noise_multiplier: float  # standard deviation of the noise, in units of clip_norm


def sampling_rate(batch_size: int, records: int) -> float:
    """With which probability each unit takes part in a step."""
    return min(1.0, batch_size / records)


def check_private(module: nn.Module) -> None:
    """Raises BadConfig if the network mixes the records of a batch, or Opacus is not installed."""
    _grad_sample_module()
    from opacus.validators import ModuleValidator

    if errors := ModuleValidator.validate(module, strict=False):
        first = str(errors[0]).partition(". ")[0]
        raise BadConfig(
            f"the plan's network cannot be trained under [privacy]: {first}; the federation would "
            "have to choose one with GroupNorm",
            key="privacy",
        )


def units_of(records: Records, unit: str) -> Indices:
    """Which unit each record is of, `record` or `patient`. [n], 0 to the number of units - 1

    Raises BadData where patients are not known.
    """
    if unit == "record":
        return np.arange(len(records), dtype=np.int64)
    if records.patients is None or any(one is None for one in records.patients):
        raise BadData(
            'privacy.unit = "patient", and the data source does not say of which patient every '
            "record is"
        )
    _, found = np.unique(np.array(records.patients, dtype=np.str_), return_inverse=True)
    return found.astype(np.int64)


def train_privately(
    module: nn.Module,
    records: Records,
    settings: PrivateTraining,
    seed: int,
    should_abandon: Callable[[], bool] = lambda: False,
    *,
    loss_of: Loss = nn.functional.cross_entropy,
    units: Indices | None = None,
    chance: SecretRandom | None = None,
) -> TrainingOutcome:
    """Trains the module in place; never the same twice, whatever the seed, which is for dropout.

    `units` [n] as of `units_of`; without it a unit is a record. The loss told is of the records
    that took part and is not private. Raises BadData without records.
    """
    if len(records) == 0:
        raise BadData("there are no records to train on")
    chance = chance or SecretRandom()
    twin = _sampled(module)
    parameters = [each for each in twin.parameters() if each.requires_grad]
    optimiser = torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    units = units_of(records, "record") if units is None else units
    fitting = _VALUES_AT_ONCE // max(1, sum(each.numel() for each in parameters))
    at_once = max(_FEWEST_AT_ONCE, min(_MOST_AT_ONCE, fitting))
    drawing = _Drawing(units, settings, chance, at_once)
    losses: list[float] = []
    steps = 0
    with reproducible(twin, seed):
        for _ in range(settings.steps):
            if should_abandon():
                break
            steps += 1
            total = [torch.zeros_like(each) for each in parameters]
            for rows, members in drawing.chunks():
                losses += _backward(twin, parameters, records, rows, loss_of)
                parts = clipped_sums(_gradients(parameters), members, settings.clip_norm)
                for sum_, part in zip(total, parts, strict=True):
                    sum_.add_(part)
            for parameter, sum_ in zip(parameters, total, strict=True):
                parameter.grad = (sum_ + _noise(sum_, settings, chance)) / drawing.expected
            optimiser.step()
    with torch.no_grad():
        for own, trained in zip(module.parameters(), twin.parameters(), strict=True):
            own.copy_(trained)
    mean_loss = float(np.mean(losses)) if losses else math.nan
    return TrainingOutcome(mean_loss=mean_loss, steps=steps, abandoned=steps < settings.steps)


def clipped_sums(
    gradients: Sequence[torch.Tensor], members: torch.Tensor, clip_norm: float
) -> list[torch.Tensor]:
    """The sum over units of each unit's mean gradient, no longer than `clip_norm` in L2.

    `gradients`: [n, ...] of each tensor; `members` [n]: the unit of each record, from 0 without
    gaps. A unit whose gradient is not finite counts as zero: it must not spoil the sum, which
    would tell of it.
    """
    count = int(members.max()) + 1 if len(members) else 0
    weights = 1.0 / torch.bincount(members, minlength=count).to(torch.float32)[members]
    means, squares = [], torch.zeros(count, dtype=torch.float64, device=members.device)
    for each in gradients:
        flat = each.flatten(1) * weights[:, None]
        mean = torch.zeros(count, flat.shape[1], device=flat.device).index_add_(0, members, flat)
        squares += mean.double().square().sum(dim=1)
        means.append(mean)
    # A hair below the clip norm, so that rounding does not carry the product above it.
    factors = (clip_norm / (squares.sqrt() * (1 + 1e-5))).clamp(max=1.0).to(torch.float32)
    finite = torch.isfinite(squares)
    clipped = (
        torch.where(finite[:, None], mean * factors[:, None], torch.zeros_like(mean))
        for mean in means
    )
    return [
        kept.sum(dim=0).reshape(each.shape[1:])
        for kept, each in zip(clipped, gradients, strict=True)
    ]


class _Drawing:
    """Who takes part in each step."""

    def __init__(
        self, units: Indices, settings: PrivateTraining, chance: SecretRandom, at_once: int
    ) -> None:
        """`at_once`: records of a chunk, at most, unless one unit has more."""
        self._chance, self._at_once = chance, at_once
        self._rate = sampling_rate(settings.batch_size, len(units))
        order = np.argsort(units, kind="stable")
        _, starts = np.unique(units[order], return_index=True)
        self._rows = np.split(order, starts[1:])  # of each unit
        self.expected = self._rate * len(self._rows)  # units of a step

    def chunks(self) -> Iterator[tuple[Indices, torch.Tensor]]:
        """Rows of one step and the unit of each within the chunk, few at a time."""
        taken = np.flatnonzero(self._chance.uniform(len(self._rows)) < self._rate)
        chunk: list[Indices] = []
        for unit in taken:
            rows = self._some(self._rows[unit])
            if chunk and sum(map(len, chunk)) + len(rows) > self._at_once:
                yield _joined(chunk)
                chunk = []
            chunk.append(rows)
        if chunk:
            yield _joined(chunk)

    def _some(self, rows: Indices) -> Indices:
        if len(rows) <= MOST_OF_A_UNIT:
            return rows
        return rows[np.argsort(self._chance.uniform(len(rows)))[:MOST_OF_A_UNIT]]


def _joined(chunk: Sequence[Indices]) -> tuple[Indices, torch.Tensor]:
    members = np.repeat(np.arange(len(chunk)), [len(rows) for rows in chunk])
    return np.concatenate(chunk), torch.from_numpy(members)


def _sampled(module: nn.Module) -> nn.Module:
    """A twin whose parameters keep the gradient of each record."""
    twin = copy.deepcopy(module)
    # Hooks look at outputs, which must not change after them.
    for part in twin.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # type: ignore[assignment]
    # Losses of the records are added up, so that each gradient is of its record alone.
    sampled = _grad_sample_module()(twin, batch_first=True, loss_reduction="sum")
    return cast(nn.Module, sampled)


def _grad_sample_module() -> Any:  # noqa: ANN401 - a class of a library without types
    try:
        # It takes seconds to import; only who trains privately pays for it.
        from opacus.grad_sample import GradSampleModule
    except ImportError as error:
        raise BadConfig(NOT_INSTALLED, key="privacy") from error
    return GradSampleModule


def _backward(
    twin: nn.Module,
    parameters: Sequence[nn.Parameter],
    records: Records,
    rows: Indices,
    loss_of: Loss,
) -> list[float]:
    """Leaves the gradient of each record with the parameters; the records' losses."""
    device = parameters[0].device
    for each in parameters:
        each.grad_sample = None  # type: ignore[attr-defined]  # Opacus's
    outputs = twin(torch.from_numpy(records.images[rows]).to(device))
    labels = torch.from_numpy(records.labels[rows]).to(device)
    # One by one: the loss of a batch may hang on all of it, and a record on its own clip alone.
    losses = torch.stack([loss_of(outputs[i : i + 1], labels[i : i + 1]) for i in range(len(rows))])
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return [float(each) for each in losses.detach()]


def _gradients(parameters: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """[n, ...] of each parameter; nothing for one that was not used."""
    found = [getattr(each, "grad_sample", None) for each in parameters]
    count = max((len(each) for each in found if each is not None), default=0)
    return [
        torch.zeros(count, *parameter.shape, device=parameter.device) if each is None else each
        for each, parameter in zip(found, parameters, strict=True)
    ]


def _noise(like: torch.Tensor, settings: PrivateTraining, chance: SecretRandom) -> torch.Tensor:
    deviation = settings.noise_multiplier * settings.clip_norm
    drawn = chance.gaussian(like.numel()) * deviation
    return torch.from_numpy(drawn.reshape(tuple(like.shape))).to(like)
