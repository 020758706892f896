"""Grey values of any range to [0, 1], and the size of images and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from letheon.imaging.records import Pixels

Method = Literal["min-max", "percentile", "z-score", "range"]
Values = npt.NDArray[Any]

_DEVIATIONS = 3.0  # of a z-score, mapped to 0 and 1


@dataclass(frozen=True)
class Intensity:
    """How values become [0, 1]; a constant image becomes 0. All but `range` ask each image.

    `min-max`: its extremes. `percentile`: its `percentiles`, clipped. `z-score`: three standard
    deviations around its mean, clipped, so that the mean is 0.5. `range`: the fixed `bounds`,
    clipped, the same for every image and site.
    """

    method: Method = "min-max"
    percentiles: tuple[float, float] = (1.0, 99.0)
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise ValueError(f"intensity must be one of {known}, not {self.method!r}")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles must be two numbers in order between 0 and 100")
        if self.method == "range" and self.bounds is None:
            raise ValueError("intensity = 'range' needs bounds = [low, high]")
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError("bounds must be two numbers in order")

    def __call__(self, values: Values) -> Pixels:
        """float32 in [0, 1], of the shape of `values`, which are finite."""
        exact = values.astype(np.float32)
        low, high = self._bounds(exact)
        return to_unit(exact, low, high)

    def _bounds(self, values: Pixels) -> tuple[float, float]:
        match self.method:
            case "percentile":
                low, high = np.percentile(values, self.percentiles)
            case "z-score":
                mean, spread = values.mean(dtype=np.float64), values.std(dtype=np.float64)
                low, high = mean - _DEVIATIONS * spread, mean + _DEVIATIONS * spread
            case "range":
                low, high = self.bounds or (0.0, 1.0)
            case _:
                low, high = values.min(), values.max()
        return float(low), float(high)


def to_unit(values: Pixels, low: float, high: float) -> Pixels:
    """`low` to 0 and `high` to 1, clipped; 0 where they are one value."""
    if not high > low:
        return np.zeros_like(values)
    scaled = (values - np.float32(low)) / np.float32(high - low)
    return scaled.clip(0.0, 1.0).astype(np.float32)


def resized(image: Pixels, size: tuple[int, ...], *, nearest: bool = False) -> Pixels:
    """[channels, (depth,) height, width] at `size`, linear, smoothed where it shrinks.

    Aspect is not kept. `nearest` keeps the values as they are, for masks.
    """
    if image.shape[1:] == size:
        return image
    flat = image
    if len(size) == 3:
        channels, depth, height, width = image.shape
        planes = image.reshape(channels * depth, height, width)
        planes = _plane_by_plane(planes, size[1:], nearest=nearest)
        # Depth is the vertical axis of a picture whose lines are whole slices.
        lines = planes.reshape(channels, depth, size[1] * size[2])
        flat = _plane_by_plane(lines, (size[0], lines.shape[2]), nearest=nearest)
        return flat.reshape(channels, *size)
    return _plane_by_plane(flat, size, nearest=nearest)


def _plane_by_plane(planes: Pixels, size: Sequence[int], *, nearest: bool) -> Pixels:
    if planes.shape[1:] == tuple(size):
        return planes
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    height, width = size
    return np.stack(
        [
            np.asarray(Image.fromarray(plane).resize((width, height), how), dtype=np.float32)
            for plane in np.ascontiguousarray(planes, dtype=np.float32)
        ]
    )


def padded_or_cropped(values: Values, size: tuple[int, ...]) -> Values:
    """The last axes at `size`, around their centre: zeros are added, or the rim cut off."""
    for axis, wanted in enumerate(size, start=values.ndim - len(size)):
        have = values.shape[axis]
        if have > wanted:
            start = (have - wanted) // 2
            values = np.take(values, range(start, start + wanted), axis=axis)
        elif have < wanted:
            before = (wanted - have) // 2
            width = [(0, 0)] * values.ndim
            width[axis] = (before, wanted - have - before)
            values = np.pad(values, width)
    return values


def checked_size(size: Sequence[int] | None, axes: int, what: str) -> tuple[int, ...] | None:
    """`size` as a tuple of `axes` numbers >= 1. Raises ValueError naming `what`."""
    if size is None:
        return None
    sides = tuple(size)
    if len(sides) != axes or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise ValueError(f"size must be {what} in whole pixels, not {list(sides)}")
    return sides
