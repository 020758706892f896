"""How good a network is on records, and how it does on each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from letheon.errors import BadData
from letheon.imaging.records import Images, Labels, Records

_BATCH = 256  # records run through a network at once, fewer if they are large
_BATCH_BYTES = 8 * 2**20

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Utility:
    """Scores over a set of records.

    `accuracy` is the score that gate and serving compare, in [0, 1]: the share classified right,
    or what the task puts in its place (`Task.score` names it: macro AUC, mean Dice).
    """

    records: int
    accuracy: float
    balanced_accuracy: float  # mean recall over the classes present
    macro_auc: float | None  # one class against the rest, averaged; None if a class is absent
    mean_loss: float  # cross-entropy, nats


@dataclass(frozen=True)
class Predictions:
    """Outputs for n images. A row the network answers with NaN or infinity counts as a guess:
    equal probabilities, and -1 as the predicted class, which is never right.
    """

    log_probabilities: Floats  # [n, classes]
    classes: Labels  # [n]


def outputs(module: nn.Module, images: Images) -> Iterator[npt.NDArray[np.float32]]:
    """What the network answers, in evaluation mode, batch by batch; its mode is left as it was.

    Raises BadData without images.
    """
    if len(images) == 0:
        raise BadData("there are no records to score")
    device = next(module.parameters()).device
    bytes_each = 4 * int(np.prod(images.shape[1:]))
    size = max(1, min(_BATCH, _BATCH_BYTES // max(1, bytes_each)))
    for start in range(0, len(images), size):
        batch = torch.from_numpy(images[start : start + size]).to(device)
        was_training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                answer = module(batch)
        finally:
            module.train(was_training)
        yield answer.detach().cpu().numpy()


def predict(module: nn.Module, images: Images) -> Predictions:
    """Log probabilities and classes of the images. Raises BadData without images."""
    logits = np.concatenate(list(outputs(module, images))).astype(np.float64)
    broken = ~np.isfinite(logits).all(axis=1)
    logits[broken] = 0.0
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    classes = logits.argmax(axis=1).astype(np.int64)
    classes[broken] = -1
    return Predictions(log_probabilities, classes)


def record_losses(module: nn.Module, records: Records) -> tuple[Floats, Bools]:
    """Cross-entropy of each record, float64 [n], and whether it is classified right, bool [n]."""
    predictions = predict(module, records.images)
    return _losses(predictions, records.labels), predictions.classes == records.labels


def utility(module: nn.Module, records: Records) -> Utility:
    """Scores of the network on the records. Raises BadData without records."""
    predictions = predict(module, records.images)
    correct = predictions.classes == records.labels
    recalls = [correct[records.labels == label].mean() for label in np.unique(records.labels)]
    return Utility(
        records=len(records),
        accuracy=float(correct.mean()),
        balanced_accuracy=float(np.mean(recalls)),
        macro_auc=macro_auc(predictions.log_probabilities, records.labels),
        mean_loss=float(_losses(predictions, records.labels).mean()),
    )


def _losses(predictions: Predictions, labels: Labels) -> Floats:
    losses: Floats = -np.take_along_axis(predictions.log_probabilities, labels[:, None], axis=1)[
        :, 0
    ]
    return losses


def macro_auc(scores: Floats, labels: Labels) -> float | None:
    """Mean over classes of the AUC of class against rest; None if any class has no record.

    `scores` [n, classes]: any increasing function of the class's probability.
    """
    classes = scores.shape[1]
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any() or classes < 2:
        return None
    return float(np.mean([rank_auc(scores[:, k], labels == k) for k in range(classes)]))


def rank_auc(scores: Floats, positive: Bools) -> float:
    """The chance that a positive scores above a negative, ties counted half (Mann-Whitney)."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        raise BadData("an AUC needs records on both sides")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))
