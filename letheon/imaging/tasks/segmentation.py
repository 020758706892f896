"""A class for each pixel or voxel: Dice and cross-entropy, mean Dice.

The loss is the sum of both, as in nnU-Net (Isensee et al., Nature Methods 18, 2021; soft Dice
after Milletari et al., arXiv 1606.04797), each a mean over records, so that a record's loss hangs
on nothing else of its batch. Class 0 is the background: it counts in the cross-entropy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from letheon.errors import BadConfig, BadData
from letheon.imaging import fitness
from letheon.imaging.records import Records
from letheon.imaging.tasks.task import Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

    from letheon.imaging.scores import Floats, Utility

_SMOOTH = 1e-5  # of soft Dice: a class that is nowhere and said to be nowhere costs nothing


@dataclass(frozen=True)
class Segmentation:
    """Labels uint8 [n, *space]; networks answer logits [n, classes, *space]."""

    dice_weight: float = 1.0
    cross_entropy_weight: float = 1.0

    score = "mean Dice"
    one_class = False

    def __post_init__(self) -> None:
        if min(self.dice_weight, self.cross_entropy_weight) < 0 or not (
            self.dice_weight + self.cross_entropy_weight > 0
        ):
            raise ValueError("the weights of Dice and cross-entropy are >= 0, and not both 0")

    def check_fit(
        self,
        records: Records,
        *,
        shape: Shape,
        classes: int,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Raises BadData unless every image has its mask and a mask holds more than background."""
        self.output_shape(shape, classes)
        fitness.check_shape(records, shape)
        fitness.check_pixels(records)
        self.check_labels(records, classes)
        if not any((masks > 0).any() for masks in fitness.blocks(records.labels)):
            raise BadData("every mask is empty: there is nothing to learn")
        fitness.check_names(records, class_names)

    def check_labels(self, records: Records, classes: int) -> None:
        """Raises BadData for masks of another shape than their images, or of unknown classes."""
        space = tuple(records.images.shape[2:])
        if tuple(records.labels.shape) != (len(records), *space):
            raise BadData(
                f"images of {fitness.spell(space)} need masks of the same size, "
                f"these are {fitness.spell(records.labels.shape[1:]) or 'single labels'}"
            )
        highest = max((int(masks.max()) for masks in fitness.blocks(records.labels)), default=0)
        if highest >= classes:
            raise BadData(f"masks must hold 0 to {classes - 1}; the source has {highest}")

    def output_shape(self, shape: Shape, classes: int) -> Shape:
        """One logit for each class and pixel. Raises BadConfig for the row of a table."""
        if len(shape) not in (3, 4):
            raise BadConfig("segmentation takes images and volumes")
        return (classes, *shape[1:])

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over the batch of weighted soft Dice loss and cross-entropy (nats a pixel)."""
        return self._losses(outputs, labels).mean()

    def judge_records(self, module: nn.Module, records: Records) -> tuple[Floats, Floats]:
        """Loss of each record, and its Dice: the mean over the classes that mask or answer hold."""
        judged = list(self._judged(module, records))
        losses = np.concatenate([losses for losses, _ in judged])
        return losses, _mean_of_known(np.concatenate([dice for _, dice in judged]))

    def utility(self, module: nn.Module, records: Records) -> Utility:
        """`accuracy` is the mean Dice of the records, `balanced_accuracy` the mean over classes
        of each class's mean Dice; there is no AUC.
        """
        from letheon.imaging.scores import Utility

        judged = list(self._judged(module, records))
        dice = np.concatenate([dice for _, dice in judged])
        return Utility(
            records=len(records),
            accuracy=float(_mean_of_known(dice).mean()),
            balanced_accuracy=float(np.mean(list(_by_class(dice).values()) or [1.0])),
            macro_auc=None,
            mean_loss=float(np.concatenate([losses for losses, _ in judged]).mean()),
        )

    def class_scores(self, module: nn.Module, records: Records) -> dict[str, float]:
        """Mean Dice of each class but the background, over the records where it is."""
        dice = np.concatenate([dice for _, dice in self._judged(module, records)])
        return {fitness.class_name(records, k + 1): each for k, each in _by_class(dice).items()}

    def _judged(self, module: nn.Module, records: Records) -> Iterator[tuple[Floats, Floats]]:
        """Losses [b] and Dice by class [b, classes - 1] of one batch after the other."""
        import torch

        from letheon.imaging.scores import outputs

        start = 0
        for logits in outputs(module, records.images):
            rows = np.arange(start, start + len(logits))
            start += len(logits)
            masks = np.asarray(records.labels[rows])
            finite = np.where(np.isfinite(logits), logits, np.float32(0))
            losses = self._losses(torch.from_numpy(finite).double(), torch.from_numpy(masks))
            told = finite.argmax(axis=1)
            told[~np.isfinite(logits).all(axis=1)] = -1  # no class: never right
            yield losses.numpy(), hard_dice(told, masks, logits.shape[1])

    def _losses(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """[n]"""
        import torch

        log_shares = torch.log_softmax(outputs, dim=1)
        # No gather and no nll_loss2d: their gradients have no deterministic kernel on a GPU.
        truth = torch.stack([labels == k for k in range(outputs.shape[1])], dim=1)
        truth = truth.to(outputs.dtype)
        space = tuple(range(2, outputs.dim()))
        entropy = -(truth * log_shares).sum(dim=1).flatten(1).mean(dim=1)
        shares = log_shares.exp()
        both = 2 * (truth * shares).sum(dim=space) + _SMOOTH
        each = 1 - both / (truth.sum(dim=space) + shares.sum(dim=space) + _SMOOTH)
        return self.cross_entropy_weight * entropy + self.dice_weight * each[:, 1:].mean(dim=1)


def hard_dice(told: npt.NDArray[np.int64], masks: npt.NDArray[np.uint8], classes: int) -> Floats:
    """Dice of each record and class but the background, [n, classes - 1].

    NaN where neither mask nor answer holds the class.
    """
    count = len(masks)
    dice = np.full((count, classes - 1), np.nan)
    for label in range(1, classes):
        said = (told == label).reshape(count, -1)
        true = (masks == label).reshape(count, -1)
        size = said.sum(axis=1) + true.sum(axis=1)
        there = size > 0
        dice[there, label - 1] = 2 * (said & true).sum(axis=1)[there] / size[there]
    return dice


def _mean_of_known(dice: Floats) -> Floats:
    """The mean of each row without its NaN; 1 where all are: nothing was there, nothing was said.

    [n]
    """
    known = np.isfinite(dice)
    total = np.where(known, dice, 0.0).sum(axis=1)
    mean: Floats = np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), 1.0)
    return mean


def _by_class(dice: Floats) -> dict[int, float]:
    """Mean Dice of each column that has a number."""
    return {
        column: float(values[np.isfinite(values)].mean())
        for column, values in enumerate(dice.T)
        if np.isfinite(values).any()
    }
