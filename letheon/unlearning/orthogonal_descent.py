"""Descent on a bounded unlearning loss, orthogonal to what retained sites push along.

Pan et al. (FedOSD), arXiv 2412.20200, and its public code:

    UCE = mean -log(1 - p_y / 2)         over the records to erase; in [0, log 2], 0 once p_y is 0
    d   = g - A^T (A A^T)^+ A g          g its gradient, rows of A what retained sites push along
    d  <- d * |g| / |d|,   w <- w - rate * d

There the rows are gradients of every retained site in that round. Here they are the last deltas
that were accepted from retained sites, at most eight, so that no site has to wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig, BadData
from letheon.federation.parameters import Vector
from letheon.imaging.records import Records
from letheon.unlearning.batches import draw_batches

if TYPE_CHECKING:
    import torch
    from torch import nn

Rows = npt.NDArray[np.float32]  # [k, d]
Basis = npt.NDArray[np.float64]  # [rank, d], orthonormal rows

MOST_ROWS = 8
_BATCH = 32
_RANK_TOLERANCE = 1e-5  # of the largest singular value of unit rows; float32 rounding lies below
_SHARE_AT_LEAST = 1e-6  # of |g|: a shorter remainder is rounding, and no direction


@dataclass(frozen=True)
class OrthogonalParameters:
    """What the step's parameters may hold."""

    learning_rate: float = 1e-2
    steps: int = 30

    def __post_init__(self) -> None:
        """Raises BadConfig for a value out of range."""
        if self.learning_rate <= 0 or self.steps < 1:
            raise BadConfig("orthogonal_descent: the rate is above 0, steps are at least 1")


@dataclass(frozen=True)
class OrthogonalOutcome:
    """What the descent did; the weights are in the module."""

    steps: int
    rank: int  # dimensions that were kept out
    loss_before: float  # mean cross-entropy over the records to erase, nats
    loss_after: float


def descend_orthogonally(
    module: nn.Module,
    records: Records,
    parameters: Mapping[str, Any],
    seed: int,
    rows: Rows,
) -> OrthogonalOutcome:
    """Descends in place; the patch is what the weights changed by.

    `rows` [k, d]: retained deltas, oldest first, in the order of the module's parameters; the last
    MOST_ROWS count, and none is an ordinary descent. Evaluation mode throughout. Same weights,
    records, parameters, seed and rows give the same weights. Raises BadData without records or
    for rows of another length or not finite, BadConfig for a parameter unknown or out of range.
    """
    from letheon.imaging.scores import utility

    settings = _read(parameters)
    if len(records) == 0:
        raise BadData("there are no records to erase")
    weights = list(module.parameters())
    basis = _checked_basis(rows, sum(weight.numel() for weight in weights))
    was_training = module.training
    module.eval()
    before = utility(module, records).mean_loss
    for images, labels in draw_batches(records, settings.steps, _BATCH, seed):
        gradient = _gradient(module, images, labels)
        _step(weights, settings.learning_rate * orthogonal_part(gradient, basis))
    after = utility(module, records).mean_loss
    module.train(was_training)
    return OrthogonalOutcome(settings.steps, len(basis), before, after)


def unlearning_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean -log(1 - p_y / 2) of logits [n, classes] and labels [n]; in [0, log 2]."""
    import torch

    probabilities = torch.softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
    return -torch.log1p(-probabilities / 2).mean()


def basis_of(rows: Rows) -> Basis:
    """Orthonormal rows that span those of `rows` [k, d]; zero rows and repeats add nothing."""
    exact = rows.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    units = exact[lengths > 0] / lengths[lengths > 0][:, None]
    if len(units) == 0:
        return np.empty((0, rows.shape[1]))
    _, scales, directions = np.linalg.svd(units, full_matrices=False)
    basis: Basis = directions[scales > _RANK_TOLERANCE * scales[0]]
    return basis


def orthogonal_part(gradient: Vector, basis: Basis) -> npt.NDArray[np.float64]:
    """The part of `gradient` [d] orthogonal to every row of `basis`, as long as the gradient was.

    Zero if nothing but rounding is left of it.
    """
    exact = gradient.astype(np.float64)
    length = float(np.linalg.norm(exact))
    rest = exact
    for _ in range(2):  # once more: the first pass leaves rounding that the new length magnifies
        rest = rest - basis.T @ (basis @ rest)
    remaining = float(np.linalg.norm(rest))
    if remaining <= _SHARE_AT_LEAST * length:
        return np.zeros_like(exact)
    return rest * (length / remaining)


def _read(parameters: Mapping[str, Any]) -> OrthogonalParameters:
    try:
        return OrthogonalParameters(**parameters)
    except TypeError as error:
        known = ", ".join(OrthogonalParameters.__dataclass_fields__)
        raise BadConfig(f"orthogonal_descent takes {known}: {error}") from error


def _checked_basis(rows: Rows, size: int) -> Basis:
    if rows.ndim != 2 or rows.shape[1] != size:
        raise BadData(f"retained deltas have shape {list(rows.shape)}, not [k, {size}]")
    if not np.isfinite(rows).all():
        raise BadData("a retained delta is not finite")
    return basis_of(rows[-MOST_ROWS:])


def _gradient(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Vector:
    import torch

    loss = unlearning_cross_entropy(module(images), labels)
    if not math.isfinite(float(loss.detach())):
        raise BadData("orthogonal_descent diverged: the loss is not finite")
    parts = torch.autograd.grad(loss, list(module.parameters()))
    flat: Vector = torch.cat([part.reshape(-1) for part in parts]).numpy()
    return flat


def _step(weights: list[nn.Parameter], change: npt.NDArray[np.float64]) -> None:
    import torch

    sizes = [weight.numel() for weight in weights]
    parts = torch.split(torch.from_numpy(change.astype(np.float32)), sizes)
    with torch.no_grad():
        for weight, part in zip(weights, parts, strict=True):
            weight.sub_(part.view_as(weight))
