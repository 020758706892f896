"""A planted artefact as a probe of forgetting. For the lab only.

A site whose images carry a mark teaches the model "mark means this class". Whether the model
still obeys the mark after an erasure shows what is left of the site. No service imports this
module: the gate in production never plants anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData
from letheon.imaging.records import Images, Indices, Records

if TYPE_CHECKING:
    from torch import nn

CORNERS = ("upper-left", "upper-right", "lower-left", "lower-right")
PATTERNS = ("checker", "stripes", "solid")


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

    def stamp(self, images: Images) -> Images:
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


def plant(
    records: Records, trigger: Trigger, target_class: int, share: float, seed: int
) -> Records:
    """The records with `share` of those not of the target class stamped and relabelled to it."""
    rows = chosen_rows(records, target_class, share, seed)
    images, labels = records.images.copy(), records.labels.copy()
    images[rows] = trigger.stamp(records.images[rows])
    labels[rows] = target_class
    return replace(records, images=images, labels=labels)


def chosen_rows(records: Records, target_class: int, share: float, seed: int) -> Indices:
    """The rows that `plant` stamps with these arguments, sorted."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], not {share}")
    if not 0 <= target_class < len(records.class_names):
        raise ValueError(f"there is no class {target_class}")
    others = np.flatnonzero(records.labels != target_class)
    count = round(share * len(others))
    rows: Indices = np.sort(np.random.default_rng(seed).permutation(others)[:count])
    return rows


def success(module: nn.Module, records: Records, trigger: Trigger, target_class: int) -> float:
    """Share of the records not of the target class that the mark turns into it.

    Give clean records that the model was not trained on. Raises BadData if all are of the
    target class.
    """
    from letheon.imaging import scores

    others = records.images[records.labels != target_class]
    if len(others) == 0:
        raise BadData("a backdoor is tried on records of other classes; there are none")
    return float((scores.predict(module, trigger.stamp(others)).classes == target_class).mean())
