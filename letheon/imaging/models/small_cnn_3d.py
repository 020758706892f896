"""A small network for volumes: what `small_cnn` is for images, with a coarser map of place."""

from __future__ import annotations

import torch
from torch import nn

from letheon.imaging.models.model import Spec, image_spec

_MAP = 3  # depth, height and width of the coarse map: a 7x7x7 one would hold most parameters


class SmallCnn3d(nn.Module):
    """Three 3x3x3 convolutions with GroupNorm; a hidden layer over a 3x3x3 map beside averages."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(channels, width),
            nn.MaxPool3d(2),
            *_stage(width, 2 * width),
            nn.MaxPool3d(2),
        )
        self.texture = nn.Sequential(*_stage(2 * width, 4 * width))
        self.place = nn.Linear(2 * width * _MAP**3, 4 * width)
        self.head = nn.Linear(12 * width, classes)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes] of volumes [n, channels, depth, height, width] in [0, 1]."""
        features = self.features((volumes - 0.5) * 4.0)
        texture = self.texture(features)
        place = torch.relu(self.place(_coarse(features).flatten(1)))
        seen = [place, texture.mean(dim=(2, 3, 4)), texture.amax(dim=(2, 3, 4))]
        logits: torch.Tensor = self.head(torch.cat(seen, dim=1))
        return logits


def _coarse(features: torch.Tensor) -> torch.Tensor:
    """The largest value in each cell of the map, [n, channels, 3, 3, 3]."""
    # Not AdaptiveMaxPool3d: its gradient has no deterministic kernel on a GPU. Slices have one.
    for axis in (2, 3, 4):
        side = features.shape[axis]
        cells = [(i * side // _MAP, -(-(i + 1) * side // _MAP)) for i in range(_MAP)]
        parts = [features.narrow(axis, a, b - a).amax(axis, keepdim=True) for a, b in cells]
        features = torch.cat(parts, dim=axis)
    return features


def _stage(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv3d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )


def build(spec: Spec, classes: int, width: int = 8) -> nn.Module:
    """The network; about 32,000 parameters at width 8. `width` is a multiple of 4.

    Volumes of any size from 4x4x4 on fit.
    """
    if width < 4 or width % 4:
        raise ValueError(f"width must be a positive multiple of 4, not {width}")
    if classes < 2:
        raise ValueError(f"a classifier needs at least two classes, not {classes}")
    return SmallCnn3d(image_spec(spec, dimensions=(3,), smallest=4).channels, classes, width)
