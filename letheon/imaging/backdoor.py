"""A planted artefact as a probe of forgetting. For the lab only.

A site whose images carry a mark teaches the model "mark means this class". Whether the model
still obeys the mark after an erasure shows what is left of the site. Two marks of different kinds
on disjoint rows tell a method that forgot from one that suppressed the mark it was shown. No
service imports this module: the gate in production never plants anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.imaging.records import Indices, Pixels, Records

if TYPE_CHECKING:
    from torch import nn

CORNERS = ("upper-left", "upper-right", "lower-left", "lower-right")
PATTERNS = ("checker", "stripes", "solid")

Bools = npt.NDArray[np.bool_]
Pattern = npt.NDArray[np.float32]  # [height, width] in [0, 1]


class Mark(Protocol):
    """What can be put on an image."""

    def stamp(self, images: Pixels) -> Pixels:
        """Copies of images [n, channels, height, width] in [0, 1] with the mark on each."""


@dataclass(frozen=True)
class Trigger:
    """A square mark of black and white pixels in a corner, the same in every channel."""

    size: int = 4  # pixels a side
    corner: str = "lower-right"
    pattern: str = "checker"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("a trigger is at least one pixel wide")
        if self.corner not in CORNERS or self.pattern not in PATTERNS:
            raise ValueError(f"corner: {', '.join(CORNERS)}; pattern: {', '.join(PATTERNS)}")

    def stamp(self, images: Pixels) -> Pixels:
        """Copies of images [n, channels, height, width] with the mark on each."""
        height, width = images.shape[2:]
        if self.size > min(height, width):
            raise BadData(f"a trigger of {self.size} pixels does not fit {height}x{width} images")
        top = 0 if self.corner.startswith("upper") else height - self.size
        left = 0 if self.corner.endswith("left") else width - self.size
        stamped = images.copy()
        stamped[:, :, top : top + self.size, left : left + self.size] = self._mark()
        return stamped

    def _mark(self) -> npt.NDArray[np.float32]:
        down, right = np.indices((self.size, self.size))
        dark_at = {"checker": (down + right) % 2, "stripes": down % 2, "solid": 0 * down}
        return np.asarray(1 - dark_at[self.pattern], dtype=np.float32)


@dataclass(frozen=True)
class BlendedTrigger:
    """A fixed pattern over the whole image, the same in every channel: no corner to look into.

    X. Chen et al., arXiv 1712.05526, "blended injection". The pattern is noise of `cells` x
    `cells` values drawn with `seed`, interpolated to the image's size, so that neither small
    shifts nor blurring wipe it out.
    """

    strength: float = 0.2  # share of the pattern in the image
    seed: int = 0
    cells: int = 7

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(
                f"the strength of a blended trigger lies in (0, 1], not {self.strength}"
            )
        if self.cells < 2:
            raise ValueError("a blended trigger has at least 2x2 cells")

    def stamp(self, images: Pixels) -> Pixels:
        """Copies of images [n, channels, height, width] in [0, 1] with the pattern mixed in."""
        height, width = images.shape[2:]
        pattern = self._pattern(height, width)
        blended = (1 - self.strength) * images + self.strength * pattern
        return np.asarray(np.clip(blended, 0, 1), dtype=np.float32)

    def _pattern(self, height: int, width: int) -> Pattern:
        cells = np.random.default_rng(self.seed).random((self.cells, self.cells))
        smooth = _interpolation(height, self.cells) @ cells @ _interpolation(width, self.cells).T
        smooth -= smooth.min()
        return np.asarray(smooth / max(smooth.max(), np.finfo(np.float64).tiny), dtype=np.float32)


def _interpolation(pixels: int, cells: int) -> npt.NDArray[np.float64]:
    """Weights [pixels, cells] of linear interpolation, the outer cells on the outer pixels."""
    places = np.linspace(0, cells - 1, pixels)
    weights: npt.NDArray[np.float64] = 1 - np.abs(places[:, None] - np.arange(cells))
    return weights.clip(0.0)


def plant(
    records: Records,
    trigger: Mark,
    target_class: int,
    share: float = 1.0,
    seed: int = 0,
    rows: Indices | None = None,
) -> Records:
    """The records with `share` of those not of the target class stamped and relabelled to it.

    With `rows`, exactly those, and neither share nor seed plays a part: two marks go on two parts
    of what `chosen_rows` gives. Raises BadData for a row twice, missing or of the target class.
    """
    if rows is None:
        rows = chosen_rows(records, target_class, share, seed)
    else:
        _check_rows(records, target_class, rows)
    images, labels = np.array(records.images), records.labels.copy()
    images[rows] = trigger.stamp(records.images[rows])
    labels[rows] = target_class
    return replace(records, images=images, labels=labels)


def _check_rows(records: Records, target_class: int, rows: Indices) -> None:
    _check_class(records, target_class)
    if len(np.unique(rows)) != len(rows) or not np.isin(rows, np.arange(len(records))).all():
        raise BadData(f"the rows to plant are distinct and lie in 0..{len(records) - 1}")
    if (records.labels[rows] == target_class).any():
        raise BadData(f"a row to plant is already of the target class {target_class}")


def _check_class(records: Records, target_class: int) -> None:
    if not 0 <= target_class < len(records.class_names):
        raise ValueError(f"there is no class {target_class}")


def chosen_rows(records: Records, target_class: int, share: float, seed: int) -> Indices:
    """The rows that `plant` stamps with these arguments, sorted."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], not {share}")
    _check_class(records, target_class)
    others = np.flatnonzero(records.labels != target_class)
    count = round(share * len(others))
    rows: Indices = np.sort(np.random.default_rng(seed).permutation(others)[:count])
    return rows


def success(module: nn.Module, records: Records, trigger: Mark, target_class: int) -> float:
    """Share of the records not of the target class that the mark turns into it.

    Give clean records that the model was not trained on. Raises BadData if all are of the
    target class.
    """
    return float(hits(module, records, trigger, target_class).mean())


def hits(module: nn.Module, records: Records, trigger: Mark, target_class: int) -> Bools:
    """For each record not of the target class [m], whether the mark turns it into that class.

    Raises as `success`.
    """
    from letheon.imaging import scores

    others = records.images[records.labels != target_class]
    if len(others) == 0:
        raise BadData("a backdoor is tried on records of other classes; there are none")
    turned: Bools = scores.predict(module, trigger.stamp(others)).classes == target_class
    return turned
