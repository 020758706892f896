"""Whether records can be used for a plan; said before training starts, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from letheon.errors import BadData
from letheon.imaging.records import Records


def check_fit(
    records: Records,
    *,
    classes: int,
    channels: int,
    height: int,
    width: int,
    class_names: Sequence[str] | None = None,
) -> None:
    """Raises BadData unless the records fit the plan's images and classes.

    `class_names`, if given, must be those of the records: a site whose labels count in another
    order would train the wrong classes and nobody would notice.
    """
    if len(records) == 0:
        raise BadData("the source has no records")
    got = records.images.shape[1:]
    if got != (channels, height, width):
        raise BadData(
            f"images are {_spell(got)} (channels x height x width), "
            f"the plan wants {_spell((channels, height, width))}"
        )
    _check_pixels(records)
    _check_labels(records, classes)
    if class_names is not None and tuple(class_names) != records.class_names:
        raise BadData(
            f"the plan's classes are {', '.join(class_names)}; "
            f"the source's are {', '.join(records.class_names)}: names and order must agree"
        )


def _spell(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)


def _check_pixels(records: Records) -> None:
    lowest, highest = float(records.images.min()), float(records.images.max())
    # A NaN makes both comparisons false.
    if not (lowest >= 0.0 and highest <= 1.0):
        raise BadData(f"pixels must lie in [0, 1]; these span {lowest:g} to {highest:g}")


def _check_labels(records: Records, classes: int) -> None:
    present = np.unique(records.labels)
    if present[0] < 0 or present[-1] >= classes:
        raise BadData(
            f"labels must be 0 to {classes - 1}; the source has {present[0]} to {present[-1]}"
        )
    if len(present) == 1:
        raise BadData(
            f"all {len(records)} records are of class {present[0]}; "
            "a site needs at least two classes to train"
        )
