"""What a network is built for.

A model plug-in is a function `build(spec, classes, **arguments) -> nn.Module` whose module maps
records [n, *spec.shape] to what the task wants of it: logits [n, classes] to classify, logits
[n, classes, *space] to segment. Its whole state is its parameters: running statistics do not
travel and are refused (see `weights.initialise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class ImageSpec:
    """Shape of one image, or of one volume."""

    channels: int
    height: int  # pixels
    width: int  # pixels
    depth: int | None = None  # slices of a volume

    @property
    def space(self) -> tuple[int, ...]:
        """([depth,] height, width)"""
        flat = (self.height, self.width)
        return flat if self.depth is None else (self.depth, *flat)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, [depth,] height, width)"""
        return (self.channels, *self.space)


@dataclass(frozen=True)
class TableSpec:
    """Shape of one row of a table."""

    features: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(features,)"""
        return (self.features,)


Spec: TypeAlias = ImageSpec | TableSpec

_KINDS = {1: "a row of a table", 3: "a 2-D image", 4: "a 3-D volume"}


def spec_of(shape: Sequence[int]) -> Spec:
    """The spec of records [n, *shape]. Raises ValueError for a shape that is none."""
    match tuple(shape):
        case (features,):
            return TableSpec(features)
        case (channels, height, width):
            return ImageSpec(channels, height, width)
        case (channels, depth, height, width):
            return ImageSpec(channels, height, width, depth)
        case other:
            raise ValueError(f"{list(other)} is the shape of no image, volume or row of a table")


def image_spec(spec: Spec, *, dimensions: Sequence[int], smallest: int = 1) -> ImageSpec:
    """The spec, for a network that takes images of so many dimensions (2, 3).

    Raises ValueError, which the registry turns into BadConfig with the network's name.
    """
    takes = " or ".join(_KINDS[count + 1] for count in dimensions)
    if not isinstance(spec, ImageSpec) or len(spec.space) not in dimensions:
        raise ValueError(f"it takes {takes}, and a record is {_KINDS[len(spec.shape)]}")
    if min(spec.space) < smallest:
        sides, least = (
            "x".join(map(str, each)) for each in (spec.space, [smallest] * len(spec.space))
        )
        raise ValueError(f"images of {sides} are too small: {least} at least")
    return spec
