"""One run of a site's own training code: what it is given, and what it gave back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from letheon.imaging.records import Indices, Records

if TYPE_CHECKING:
    import torch
    from torch import nn

Arrays = Mapping[str, npt.NDArray[np.float32]]  # by tensor, in the order of the plan's layout


@dataclass(frozen=True)
class Config:
    """What the plan and the task ask for. Code may train in another way; the seed is to be kept."""

    seed: int  # of this task; python, numpy and torch are seeded with it already
    steps: int  # local steps of the plan
    batch_size: int
    learning_rate: float  # of this task: the plan's schedule at this point
    momentum: float
    clip_norm: float
    weight_decay: float
    task: str  # "classification", "segmentation", ...
    classes: int
    class_names: tuple[str, ...]
    shape: tuple[int, ...]  # of one record
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # the task's, of outputs and labels
    should_stop: Callable[[], bool]  # whether this training has become useless: return then
    arguments: Mapping[str, Any] = field(default_factory=dict)  # `code_arguments` of agent.toml
    device: str = "cpu"  # where the model is
    places: Indices | None = None
    """Where a past training is made again without some records: see `letheon.site.batches`."""


@dataclass(frozen=True)
class Job:
    """Given to the code. `module` is a copy that belongs to it and holds the base's weights."""

    module: nn.Module
    base: Arrays
    records: Records
    config: Config


@dataclass(frozen=True)
class Sent:
    """Checked: `weights` has the tensors of the base, finite float32."""

    weights: Arrays
    num_examples: int  # the weight key: how many records the training stands for
    metrics: Mapping[str, float]

    @property
    def loss(self) -> float | None:
        """The mean training loss, if the code told one."""
        return next((self.metrics[k] for k in ("loss", "train_loss") if k in self.metrics), None)
