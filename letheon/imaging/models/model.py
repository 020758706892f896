"""What a network is built for.

A model plug-in is a function `build(spec, classes, **arguments) -> nn.Module` whose module maps
images [n, channels, height, width] in [0, 1] to logits [n, classes], and whose whole state is
its parameters: running statistics do not travel and are refused (see `weights.initialise`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageSpec:
    """Shape of one image."""

    channels: int
    height: int  # pixels
    width: int  # pixels
