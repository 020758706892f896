"""One class for each image or volume: cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from letheon.errors import BadConfig
from letheon.imaging import fitness
from letheon.imaging.records import Records
from letheon.imaging.tasks.task import Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

    from letheon.imaging.scores import Bools, Floats, Utility


class Classification:
    """Labels int64 [n], class index; networks answer logits [n, classes]."""

    score = "accuracy"
    one_class = True

    def check_fit(
        self,
        records: Records,
        *,
        shape: Shape,
        classes: int,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Raises BadData unless images, labels and at least two classes are there."""
        self.output_shape(shape, classes)
        fitness.check_shape(records, shape)
        self._check_values(records)
        self.check_labels(records, classes)
        fitness.check_two_classes(records)
        fitness.check_names(records, class_names)

    def _check_values(self, records: Records) -> None:
        fitness.check_pixels(records)

    def check_labels(self, records: Records, classes: int) -> None:
        """Raises BadData for labels that are no class of the plan."""
        fitness.check_class_labels(records, classes)

    def output_shape(self, shape: Shape, classes: int) -> Shape:
        """One logit for each class. Raises BadConfig for the row of a table."""
        if len(shape) not in (3, 4):
            raise BadConfig('classification takes images; for a table set task = "tabular"')
        return (classes,)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, nats."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, labels)

    def judge_records(self, module: nn.Module, records: Records) -> tuple[Floats, Bools]:
        """Cross-entropy of each record, and whether it is classified right."""
        from letheon.imaging.scores import record_losses

        return record_losses(module, records)

    def utility(self, module: nn.Module, records: Records) -> Utility:
        """Accuracy, balanced accuracy, macro AUC and mean cross-entropy."""
        from letheon.imaging.scores import utility

        return utility(module, records)

    def class_scores(self, module: nn.Module, records: Records) -> dict[str, float]:
        """Recall of each class that is present."""
        _, correct = self.judge_records(module, records)
        return {
            fitness.class_name(records, int(label)): float(correct[records.labels == label].mean())
            for label in np.unique(records.labels)
        }
