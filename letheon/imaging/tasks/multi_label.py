"""Several findings for each record, each there, not there or unknown: sigmoid, macro AUC.

Unknown labels (-1) take part in nothing: not in the loss, not in a score. What the gate compares
is the mean AUC over the labels that have both outcomes among a site's records: an accuracy is near
1 for a network that never reports a rare finding.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    from letheon.imaging.scores import Bools, Floats, Utility

UNKNOWN = -1


class MultiLabel:
    """Labels int64 [n, classes] of 0, 1 and -1; networks answer logits [n, classes]."""

    score = "macro AUC"
    one_class = False

    def check_fit(
        self,
        records: Records,
        *,
        shape: Shape,
        classes: int,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Raises BadData unless images fit and a label has both outcomes."""
        self.output_shape(shape, classes)
        fitness.check_shape(records, shape)
        fitness.check_pixels(records)
        self.check_labels(records, classes)
        if not any(_both(column) for column in np.asarray(records.labels).T):
            raise BadData("no label has records with and without it: there is nothing to learn")
        fitness.check_names(records, class_names)

    def check_labels(self, records: Records, classes: int) -> None:
        """Raises BadData for labels of another shape or value, or a record of unknown ones."""
        labels = np.asarray(records.labels)
        if labels.ndim != 2 or labels.shape[1] != classes:
            raise BadData(
                f"multi-label records need labels of shape [n, {classes}], "
                f"these have {list(labels.shape)}"
            )
        if not np.isin(labels, (UNKNOWN, 0, 1)).all():
            raise BadData("labels must be 0, 1 or -1 (unknown)")
        if silent := int((labels == UNKNOWN).all(axis=1).sum()):
            raise BadData(f"{silent} records have no known label: leave them out of the source")

    def output_shape(self, shape: Shape, classes: int) -> Shape:
        """One logit for each label. Raises BadConfig for the row of a table."""
        if len(shape) not in (3, 4):
            raise BadConfig("multi_label takes images")
        return (classes,)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean binary cross-entropy over the known labels of the batch, nats."""
        from torch.nn import functional

        known = labels != UNKNOWN
        each = functional.binary_cross_entropy_with_logits(
            outputs, labels.clamp(min=0).to(outputs.dtype), reduction="none"
        )
        return (each * known).sum() / known.sum().clamp(min=1)

    def judge_records(self, module: nn.Module, records: Records) -> tuple[Floats, Floats]:
        """Mean binary cross-entropy of each record, and the share of its labels that is right."""
        logits, labels = _logits(module, records), np.asarray(records.labels)
        return _losses(logits, labels), _right_share(logits, labels)

    def utility(self, module: nn.Module, records: Records) -> Utility:
        """`accuracy` and `macro_auc` are the mean AUC over the labels with both outcomes;
        `balanced_accuracy` is its like at the threshold 0.5. Where no label has both outcomes,
        `accuracy` is the share of known labels that is right, and `macro_auc` None.
        """
        from letheon.imaging.scores import Utility

        logits, labels = _logits(module, records), np.asarray(records.labels)
        aucs = list(_aucs(logits, labels).values())
        auc = float(np.mean(aucs)) if aucs else None
        recalls = [_balanced(logits[:, k] > 0, labels[:, k]) for k in range(labels.shape[1])]
        known = [recall for recall in recalls if recall is not None]
        right = float((_right(logits, labels) & (labels != UNKNOWN)).sum())
        return Utility(
            records=len(records),
            accuracy=right / int((labels != UNKNOWN).sum()) if auc is None else auc,
            balanced_accuracy=float(np.mean(known)),
            macro_auc=auc,
            mean_loss=float(_losses(logits, labels).mean()),
        )

    def class_scores(self, module: nn.Module, records: Records) -> dict[str, float]:
        """AUC of each label that has both outcomes."""
        aucs = _aucs(_logits(module, records), np.asarray(records.labels))
        return {fitness.class_name(records, label): auc for label, auc in aucs.items()}


def _logits(module: nn.Module, records: Records) -> Floats:
    """[n, classes]; what is not finite becomes 0: neither there nor not."""
    from letheon.imaging.scores import outputs

    logits = np.concatenate(list(outputs(module, records.images))).astype(np.float64)
    return np.where(np.isfinite(logits), logits, 0.0)


def _losses(logits: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    known = labels != UNKNOWN
    each = np.logaddexp(0.0, logits) - np.where(known, labels, 0) * logits
    mean: Floats = (each * known).sum(axis=1) / known.sum(axis=1)
    return mean


def _right(logits: Floats, labels: npt.NDArray[np.int64]) -> Bools:
    """A logit of exactly 0 is right about nothing: it is what a broken network answers."""
    right: Bools = ((logits > 0) == (labels == 1)) & (logits != 0)
    return right


def _right_share(logits: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    known = labels != UNKNOWN
    share: Floats = (_right(logits, labels) & known).sum(axis=1) / known.sum(axis=1)
    return share


def _both(column: npt.NDArray[np.int64]) -> bool:
    return bool((column == 0).any() and (column == 1).any())


def _aucs(logits: Floats, labels: npt.NDArray[np.int64]) -> dict[int, float]:
    from letheon.imaging.scores import rank_auc

    found = {}
    for label in range(labels.shape[1]):
        column = labels[:, label]
        known = column != UNKNOWN
        if _both(column):
            found[label] = rank_auc(logits[known, label], column[known] == 1)
    return found


def _balanced(told: Bools, column: npt.NDArray[np.int64]) -> float | None:
    """Mean recall over the outcomes that are there; None if the label is known of no record."""
    recalls = [(told[column == outcome] == bool(outcome)).mean() for outcome in (0, 1)
               if (column == outcome).any()]  # fmt: skip
    return float(np.mean(recalls)) if recalls else None
