"""Whether records can be used for a plan; said before training starts, in one sentence.

Tasks put these checks together, see `letheon.imaging.tasks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from letheon.errors import BadData
from letheon.imaging.images import blocks
from letheon.imaging.records import Records

__all__ = ["blocks"]

_SIDES = {
    1: "features",
    3: "channels x height x width",
    4: "channels x depth x height x width",
}


def check_shape(records: Records, shape: tuple[int, ...]) -> None:
    """Raises BadData unless there are records, and each is of that shape."""
    if len(records) == 0:
        raise BadData("the source has no records")
    got = tuple(records.images.shape[1:])
    if got != shape:
        raise BadData(
            f"images are {spell(got)} ({_SIDES.get(len(got), 'sides')}), "
            f"the plan wants {spell(shape)}"
        )


def spell(shape: Sequence[int]) -> str:
    """1 x 28 x 28"""
    return " x ".join(str(side) for side in shape)


def check_pixels(records: Records) -> None:
    """Raises BadData for a pixel outside [0, 1], or none at all."""
    ranges = np.array([(block.min(), block.max()) for block in blocks(records.images)])
    lowest, highest = float(ranges[:, 0].min()), float(ranges[:, 1].max())
    # A NaN makes both comparisons false.
    if not (lowest >= 0.0 and highest <= 1.0):
        raise BadData(f"pixels must lie in [0, 1]; these span {lowest:g} to {highest:g}")


def check_finite(records: Records) -> None:
    """Raises BadData for a feature that is missing or infinite, naming the first column."""
    for block in blocks(records.images):
        odd = ~np.isfinite(block)
        if odd.any():
            column = int(np.argmax(odd.any(axis=0)))
            raise BadData(
                f"feature {column} of {int(odd.any(axis=1).sum())} records is no finite number: "
                "let the source drop or impute what is missing"
            )


def check_class_labels(records: Records, classes: int) -> None:
    """Raises BadData unless each record has one label, 0 to classes - 1."""
    if records.labels.dtype != np.int64 or len(records.labels.shape) != 1:
        raise BadData(
            "classification needs one label a record, these are "
            f"{records.labels.dtype} of shape {list(records.labels.shape)}"
        )
    if len(records) == 0:
        return
    lowest, highest = int(records.labels.min()), int(records.labels.max())
    if lowest < 0 or highest >= classes:
        raise BadData(f"labels must be 0 to {classes - 1}; the source has {lowest} to {highest}")


def check_two_classes(records: Records) -> None:
    """Raises BadData if all records are of one class."""
    present = np.unique(records.labels)
    if len(present) == 1:
        raise BadData(
            f"all {len(records)} records are of class {present[0]}; "
            "a site needs at least two classes to train"
        )


def check_names(records: Records, class_names: Sequence[str] | None) -> None:
    """Raises BadData unless these are the records' names, if given.

    A site whose labels count in another order would train the wrong classes unseen.
    """
    if class_names is not None and tuple(class_names) != records.class_names:
        raise BadData(
            f"the plan's classes are {', '.join(class_names)}; "
            f"the source's are {', '.join(records.class_names)}: names and order must agree"
        )


def class_name(records: Records, label: int) -> str:
    """The name of a class, or its number where the source has no name for it."""
    names = records.class_names
    return names[label] if 0 <= label < len(names) else str(label)


def class_counts(records: Records) -> dict[str, int]:
    """Records of each class by name: of that class, with that finding, or with it in their mask.

    The background of masks is left out.
    """
    if records.labels.dtype == np.uint8:
        highest = max((int(block.max()) for block in blocks(records.labels)), default=0)
        counts = np.zeros(highest + 1, dtype=np.int64)
        for block in blocks(records.labels):
            flat = block.reshape(len(block), -1)
            counts += [int((flat == k).any(axis=1).sum()) for k in range(highest + 1)]
        return {class_name(records, k): int(counts[k]) for k in range(1, highest + 1)}
    if len(records.labels.shape) == 2:
        present = (np.asarray(records.labels) == 1).sum(axis=0)
    else:
        present = np.bincount(records.labels[records.labels >= 0])
    return {class_name(records, k): int(count) for k, count in enumerate(present)}


def check_fit(
    records: Records,
    *,
    classes: int,
    channels: int,
    height: int,
    width: int,
    class_names: Sequence[str] | None = None,
) -> None:
    """Raises BadData unless the records fit a classification of 2-D images: see the task."""
    check_shape(records, (channels, height, width))
    check_pixels(records)
    check_class_labels(records, classes)
    check_two_classes(records)
    check_names(records, class_names)
