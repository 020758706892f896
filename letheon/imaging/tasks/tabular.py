"""One class for each row of a table: as classification, on features of any finite value."""

from __future__ import annotations

from letheon.errors import BadConfig
from letheon.imaging import fitness
from letheon.imaging.records import Records
from letheon.imaging.tasks.classification import Classification
from letheon.imaging.tasks.task import Shape


class Tabular(Classification):
    """Records float32 [n, features], labels int64 [n]; networks answer logits [n, classes]."""

    def _check_values(self, records: Records) -> None:
        fitness.check_finite(records)

    def output_shape(self, shape: Shape, classes: int) -> Shape:
        """One logit for each class. Raises BadConfig for images."""
        if len(shape) != 1:
            raise BadConfig(
                "the task tabular takes rows: give the plan image = { features = N }, "
                'or set task = "classification" for images'
            )
        return (classes,)
