"""Recombination: the head refitted as a weighted sum of what the retained sites contributed.

After a removal the head is w_R = w_0 + sum_j C_j, where j runs over the retained sites and over
segments of their history. Each C_j was made for a head that the subject had moved, so their plain
sum is a poor model. Here every tensor l of every C_j gets a weight,

    w(lambda) = w_R + sum_j sum_l (lambda_jl - 1) C_jl,        lambda = 1 at the start,

and the weights are fitted to the labelled calibration images by Adam on the cross-entropy. The
change lies in the span of the retained contributions: nothing of the subject's own deltas can
enter it, and a few hundred numbers cannot memorise a few hundred images as training would.
Fitting coefficients of task vectors is due to Ilharco et al. (arXiv 2212.04089) and Yang et al.
(AdaMerging, arXiv 2310.02575); its use for repair after an erasure is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig, BadData
from letheon.federation.arithmetic import accumulate
from letheon.federation.parameters import Vector
from letheon.imaging.records import Records
from letheon.unlearning.augmentations import augment

if TYPE_CHECKING:
    import torch
    from torch import nn

Factors: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RecombinationSettings:
    """What the step's parameters may hold."""

    steps: int = 250
    learning_rate: float = 0.05  # of Adam, on weights that begin at 1
    batch_size: int = 128

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if self.learning_rate <= 0 or min(self.steps, self.batch_size) < 1:
            raise BadConfig("recombine: rate is above 0, steps and batch size are at least 1")


def read_settings(parameters: Mapping[str, Any]) -> RecombinationSettings:
    """Raises BadConfig for a parameter unknown or out of range."""
    try:
        return RecombinationSettings(**parameters)
    except TypeError as error:
        known = ", ".join(RecombinationSettings.__dataclass_fields__)
        raise BadConfig(f"recombine takes {known}: {error}") from error


@dataclass(frozen=True)
class Fitted:
    """What a fit found."""

    factors: Factors  # [k, tensors], by part and by tensor of the module
    numbers: dict[str, float]  # for the certificate


def recombine(
    module: nn.Module,
    parts: Sequence[Vector],
    records: Records | None,
    parameters: Mapping[str, Any],
    seed: int,
) -> dict[str, float]:
    """As `fit`; the numbers alone."""
    return fit(module, parts, records, parameters, seed).numbers


def add_share(share: Vector, part: Vector, factors: Factors, sizes: Sequence[int]) -> None:
    """Adds `(factor_l - 1) * part` of each tensor l, of `sizes[l]` values, to `share` in place.

    All [d]. The sum over the parts is what `fit` changes the module by, to rounding.
    """
    start = 0
    for factor, size in zip(factors, sizes, strict=True):
        tensor = slice(start, start + size)
        accumulate(share[tensor], float(factor) - 1.0, part[tensor])
        start += size


def fit(
    module: nn.Module,
    parts: Sequence[Vector],
    records: Records | None,
    parameters: Mapping[str, Any],
    seed: int,
) -> Fitted:
    """Refits the head in `module` in place.

    `parts` [k] of [d]: the retained contributions, in the order of the module's parameters. Every
    second batch is transformed by the family fixed beforehand. Same arguments, same weights.
    Raises BadData without images or parts, BadConfig for a parameter.
    """
    import torch

    settings = read_settings(parameters)
    if records is None or len(records) == 0:
        raise BadData("recombination needs labelled calibration images")
    if not parts:
        raise BadData("recombination needs contributions of sites that stay")
    was_training = module.training
    module.eval()
    own = dict(module.named_parameters())
    head = {name: weight.detach().clone() for name, weight in own.items()}
    split = _by_tensor(parts, head)
    factors = torch.ones(len(parts), len(head), requires_grad=True)
    losses = _descend(module, head, split, factors, _batches(records, settings, seed), settings)
    with torch.no_grad():
        for name, values in _mixed(head, split, factors).items():
            own[name].copy_(values)
    module.train(was_training)
    found = factors.detach().numpy()
    numbers = {
        "parts": float(len(parts)),
        "loss_before": losses[0],
        "loss_after": losses[-1],
        "smallest_factor": float(found.min()),
        "largest_factor": float(found.max()),
    }
    return Fitted(found, numbers)


def _descend(
    module: nn.Module,
    head: Mapping[str, torch.Tensor],
    split: Mapping[str, torch.Tensor],
    factors: torch.Tensor,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    settings: RecombinationSettings,
) -> list[float]:
    """Fits `factors` in place; the loss of each batch before its step."""
    import torch

    optimiser = torch.optim.Adam([factors], lr=settings.learning_rate)
    losses = []
    for images, labels in batches:
        logits = torch.func.functional_call(module, _mixed(head, split, factors), (images,))
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def _by_tensor(
    parts: Sequence[Vector], head: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """[k, *shape] for each tensor."""
    import torch

    stacked = torch.from_numpy(np.stack(parts))
    sizes = [weight.numel() for weight in head.values()]
    if stacked.shape[1] != sum(sizes):
        raise BadData(f"contributions of {stacked.shape[1]} values do not fit the network")
    pieces = torch.split(stacked, sizes, dim=1)
    return {
        name: piece.reshape(len(parts), *weight.shape)
        for (name, weight), piece in zip(head.items(), pieces, strict=True)
    }


def _mixed(
    head: Mapping[str, torch.Tensor], split: Mapping[str, torch.Tensor], factors: torch.Tensor
) -> dict[str, torch.Tensor]:
    import torch

    return {
        name: weight + torch.tensordot(factors[:, place] - 1.0, split[name], dims=1)
        for place, (name, weight) in enumerate(head.items())
    }


def _batches(
    records: Records, settings: RecombinationSettings, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    import torch

    generator = torch.Generator().manual_seed(seed % 2**63)
    images, labels = torch.from_numpy(np.asarray(records.images)), torch.from_numpy(records.labels)
    size = min(settings.batch_size, len(records))
    for step in range(settings.steps):
        rows = torch.randperm(len(records), generator=generator)[:size]
        chosen = images[rows]
        yield (augment(chosen, generator) if step % 2 else chosen), labels[rows]
