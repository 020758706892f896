"""The family of transformations that invariance is asked for, fixed before any request.

No transformation depends on a request: calibrating with what an attacker used, or with what an
audit probes, would optimise the test instead of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Named in certificates; changing a transformation or its range needs a new name.
FAMILY = "letheon-family/1"

_SHIFT_SHARE = 0.1  # of height and width, at most
_CONTRAST = 0.25  # factor 1 +- this
_NOISE = 0.05  # standard deviation, in units of the pixel range [0, 1]
_CUT_OUT_SHARE = 0.25  # side of the square, of height and width

Transformation = Callable[["torch.Tensor", "torch.Generator"], "torch.Tensor"]


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every image through two different transformations of the family, drawn for the batch.

    `images` [n, channels, height, width] float32 in [0, 1]; the result has the same shape and
    range. Same images and generator state, same result.
    """
    import torch

    order = torch.randperm(len(TRANSFORMATIONS), generator=generator)[:2].tolist()
    for index in order:
        images = TRANSFORMATIONS[index](images, generator)
    return images.clamp(0.0, 1.0)


def flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Left and right exchanged, in about half of the images."""
    import torch

    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def shift(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The batch moved by up to a tenth of its sides; the rim repeats."""
    import torch
    from torch.nn import functional

    height, width = images.shape[-2:]
    most = [max(1, round(side * _SHIFT_SHARE)) for side in (height, width)]
    padded = functional.pad(images, (most[1], most[1], most[0], most[0]), mode="replicate")
    down = int(torch.randint(2 * most[0] + 1, (), generator=generator))
    right = int(torch.randint(2 * most[1] + 1, (), generator=generator))
    return padded[..., down : down + height, right : right + width]


def contrast(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image's distance from its own mean times a factor."""
    import torch

    factors = 1 + _CONTRAST * (2 * torch.rand(len(images), generator=generator) - 1)
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    return means + (images - means) * factors[:, None, None, None]


def noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gaussian noise on every pixel."""
    import torch

    return images + _NOISE * torch.randn(images.shape, generator=generator)


def cut_out(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A square patch of each image replaced by the image's mean."""
    import torch

    count, _, height, width = images.shape
    tall, wide = (max(1, round(side * _CUT_OUT_SHARE)) for side in (height, width))
    top = torch.randint(height - tall + 1, (count, 1), generator=generator)
    left = torch.randint(width - wide + 1, (count, 1), generator=generator)
    rows, columns = torch.arange(height)[None], torch.arange(width)[None]
    inside_rows = (rows >= top) & (rows < top + tall)
    inside_columns = (columns >= left) & (columns < left + wide)
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    return torch.where(inside, images.mean(dim=(1, 2, 3), keepdim=True), images)


TRANSFORMATIONS: tuple[Transformation, ...] = (flip, shift, contrast, noise, cut_out)
