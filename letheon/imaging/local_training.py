"""Local steps of one site: plain SGD, reproducible, and stopped between two steps on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from letheon.errors import BadData
from letheon.imaging.records import Indices, Records

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of outputs and labels


@dataclass(frozen=True)
class LocalTraining:
    """Settings of the local optimiser, as the plan names them."""

    steps: int = 16
    batch_size: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.9
    clip_norm: float | None = 5.0  # of the whole gradient, L2; None: no clipping
    weight_decay: float = 0.0
    mixed_precision: bool = False  # forward passes in bfloat16 where that is safe

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError("steps and batch_size must be at least 1")
        if not self.learning_rate > 0 or not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise ValueError("learning_rate must be > 0, momentum in [0, 1), weight_decay >= 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError("clip_norm must be > 0, or None for no clipping")


@dataclass(frozen=True)
class TrainingOutcome:
    """What happened; the weights are in the module."""

    mean_loss: float  # over the steps that had records; NaN if none had
    steps: int  # taken
    abandoned: bool  # stopped on request: the weights are of no use


def train_locally(
    module: nn.Module,
    records: Records,
    settings: LocalTraining,
    seed: int,
    should_abandon: Callable[[], bool] = lambda: False,
    *,
    loss_of: Loss = nn.functional.cross_entropy,
    places: Indices | None = None,
) -> TrainingOutcome:
    """Trains the module in place with SGD on batches drawn without replacement.

    Same weights, records, settings and seed (and number of torch threads) give the same weights
    bit for bit. `should_abandon` is asked before every step; `loss_of` is the task's, a mean over
    the batch. `places` is for a training made again without some records: the row of each record
    that was there then, -1 where it is left out; see `batch_rows`. Raises BadData without records.
    """
    if len(records) == 0:
        raise BadData("there are no records to train on")
    device = next(module.parameters()).device
    optimiser = torch.optim.SGD(
        module.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    total, steps, learned = 0.0, 0, 0
    with reproducible(module, seed):
        count = len(records)
        for rows in batch_rows(count, settings.steps, settings.batch_size, seed, places):
            if should_abandon():
                break
            steps += 1
            if len(rows) == 0:
                continue
            images = torch.from_numpy(records.images[rows]).to(device)
            labels = torch.from_numpy(records.labels[rows]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision):
                loss = loss_of(module(images), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
            optimiser.step()
            total += float(loss.detach())
            learned += 1
    mean_loss = total / learned if learned else math.nan
    return TrainingOutcome(mean_loss=mean_loss, steps=steps, abandoned=steps < settings.steps)


def batch_rows(
    count: int, steps: int, batch_size: int, seed: int, places: Indices | None = None
) -> Iterator[Indices]:
    """Row numbers of each step's batch: passes over all records, each in a new order.

    With `places` [records there were], batches are drawn as they were then and miss who is left
    out (-1), so that the other records meet again in the same steps: nothing differs but what is
    left out, as in DeltaGrad (Wu et al., ICML 2020). Such a batch may be smaller, or empty.
    """
    if places is not None:
        for drawn in batch_rows(len(places), steps, batch_size, seed):
            rows = places[drawn]
            yield rows[rows >= 0]
        return
    generator = np.random.default_rng(seed)
    size = min(batch_size, count)
    waiting = generator.permutation(count)
    for _ in range(steps):
        if len(waiting) < size:
            # What is left of the pass is dropped, so that no batch holds a record twice.
            waiting = generator.permutation(count)
        yield waiting[:size]
        waiting = waiting[size:]


@contextmanager
def reproducible(module: nn.Module, seed: int) -> Iterator[None]:
    """Training mode, seeded dropout and deterministic kernels; all as before afterwards."""
    was_training = module.training
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Some operations have no such kernel on a GPU: there a warning, and digits that may differ.
        on_gpu = next(module.parameters()).is_cuda
        torch.use_deterministic_algorithms(True, warn_only=on_gpu)
        module.train()
        try:
            yield
        finally:
            module.train(was_training)
            torch.use_deterministic_algorithms(was_deterministic)
