"""A small network that one core trains in seconds.

It sees an image twice: as a coarse map, where place matters, and averaged, where only texture
does. Under asynchronous training the map learned, and after a removal healed, within far fewer
deltas than averages alone: `docs/decisions/0007-small-network-and-rate-schedule.md`.
"""

from __future__ import annotations

import torch
from torch import nn

from letheon.imaging.models.model import Spec, image_spec

_MAP = 7  # height and width of the coarse map


class SmallCnn(nn.Module):
    """Three 3x3 convolutions with GroupNorm; a hidden layer over a 7x7 map beside averages."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(channels, width),
            nn.MaxPool2d(2),
            *_stage(width, 2 * width),
            nn.AdaptiveMaxPool2d(_MAP),
        )
        self.texture = nn.Sequential(*_stage(2 * width, 4 * width))
        self.place = nn.Linear(2 * width * _MAP * _MAP, 4 * width)
        self.head = nn.Linear(12 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes] of images [n, channels, height, width] in [0, 1]."""
        features = self.features((images - 0.5) * 4.0)
        texture = self.texture(features)
        place = torch.relu(self.place(features.flatten(1)))
        seen = [place, texture.mean(dim=(2, 3)), texture.amax(dim=(2, 3))]
        logits: torch.Tensor = self.head(torch.cat(seen, dim=1))
        return logits


def _stage(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )


def build(spec: Spec, classes: int, width: int = 16) -> nn.Module:
    """The network; about 126,000 parameters at width 16. `width` is a multiple of 4.

    Images of any size from 4x4 on fit.
    """
    if width < 4 or width % 4:
        raise ValueError(f"width must be a positive multiple of 4, not {width}")
    if classes < 2:
        raise ValueError(f"a classifier needs at least two classes, not {classes}")
    image = image_spec(spec, dimensions=(2,), smallest=4)
    return SmallCnn(image.channels, classes, width)
