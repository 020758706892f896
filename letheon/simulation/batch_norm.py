"""A network with BatchNorm, for the laboratory alone: its running statistics are no weights.

The product refuses such a network (`letheon.imaging.models.weights`): statistics are no sum of
deltas, so nothing can be subtracted from them. Here they are read, written and estimated beside
the weights, to measure what they carry. Ioffe and Szegedy, arXiv 1502.03167.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from letheon.federation.parameters import Vector, flatten
from letheon.federation.plan import PlanDraft
from letheon.imaging.models.weights import read_weights
from letheon.imaging.records import Records
from letheon.simulation.sites import Network, layout_of

_BATCH = 256  # images of one step of an estimate
_MAP = 7  # height and width of the coarse map, as in the plan's small network


class BatchNormCnn(nn.Module):
    """Two convolutions with BatchNorm; a hidden layer over a 7x7 map."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(channels, width),
            nn.MaxPool2d(2),
            *_stage(width, 2 * width),
            nn.AdaptiveMaxPool2d(_MAP),
        )
        self.place = nn.Linear(2 * width * _MAP * _MAP, 4 * width)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes] of images [n, channels, height, width] in [0, 1]."""
        features = self.features((images - 0.5) * 4.0)
        logits: torch.Tensor = self.head(torch.relu(self.place(features.flatten(1))))
        return logits


def _stage(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


@dataclass(frozen=True)
class BatchNormNetwork(Network):
    """`load` writes the weights only; the statistics are whatever was written last."""

    width: int = 8  # of the first convolution

    @classmethod
    def with_width(cls, plan: PlanDraft, width: int) -> BatchNormNetwork:
        """The network for a plan's images and classes, whatever model the plan names."""
        module = _fresh(plan, width, 0)
        return cls(plan, module, layout_of(module), width)

    def initial(self, seed: int) -> Vector:
        """Fresh random weights [d]."""
        return flatten(read_weights(_fresh(self.plan, self.width, seed)), self.layout)


def _fresh(plan: PlanDraft, width: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BatchNormCnn(plan.image.shape[0], plan.classes, width)


def read_statistics(module: nn.Module) -> Vector:
    """The running means and variances [s], copied, in the module's own order."""
    parts = [
        part.detach().numpy().ravel()
        for layer in _layers(module)
        for part in (_running(layer.running_mean), _running(layer.running_var))
    ]
    return np.concatenate(parts).astype(np.float32)


def write_statistics(module: nn.Module, statistics: Vector) -> None:
    """Writes running means and variances [s]. Raises ValueError for another number of them."""
    runnings = [
        part
        for layer in _layers(module)
        for part in (_running(layer.running_mean), _running(layer.running_var))
    ]
    if statistics.shape != (sum(part.numel() for part in runnings),):
        raise ValueError(f"the network has other statistics than {list(statistics.shape)}")
    start = 0
    with torch.no_grad():
        for part in runnings:
            part.copy_(torch.tensor(statistics[start : start + part.numel()]))
            start += part.numel()


def estimate_statistics(module: nn.Module, records: Records) -> Vector:
    """The statistics [s] of these weights on these records, from nothing: the cure.

    The plain mean over batches, no earlier value enters. The module's own are left overwritten
    with them.
    """
    layers = _layers(module)
    was_training = module.training
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean
    module.train()
    with torch.no_grad():
        for start in range(0, len(records), _BATCH):
            module(torch.from_numpy(records.images[start : start + _BATCH]))
    module.train(was_training)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return read_statistics(module)


def _layers(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


def _running(part: torch.Tensor | None) -> torch.Tensor:
    if part is None:
        raise ValueError("a BatchNorm without running statistics")
    return part
