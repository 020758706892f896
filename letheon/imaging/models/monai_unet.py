"""A small U-Net of MONAI for masks of images and volumes, with GroupNorm.

Ronneberger et al., MICCAI 2015 (arXiv 1505.04597), with the residual units of Kerfoot et al.
(STACOM 2018) as MONAI builds it. GroupNorm keeps no running statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from letheon.errors import BadConfig
from letheon.imaging.models.model import Spec, image_spec

if TYPE_CHECKING:
    from torch import nn

_GROUPS = 4


def build(
    spec: Spec,
    classes: int,
    channels: Sequence[int] = (8, 16, 32),
    residual_units: int = 1,
) -> nn.Module:
    """Images [n, c, *space] become logits [n, classes, *space]; class 0 is the background.

    `channels` of each level, multiples of 4; each level but the first halves the sides, which
    must be divisible that often. Raises BadConfig where MONAI is not installed.
    """
    if len(channels) < 2 or any(width < 1 or width % _GROUPS for width in channels):
        raise ValueError(f"channels must be two or more multiples of {_GROUPS}")
    if residual_units < 0:
        raise ValueError("residual_units must be at least 0")
    halvings = len(channels) - 1
    image = image_spec(spec, dimensions=(2, 3), smallest=2**halvings)
    if odd := [side for side in image.space if side % 2**halvings]:
        raise ValueError(
            f"a side of {odd[0]} cannot be halved {halvings} times: let the source pad the images"
        )
    try:
        # Importing MONAI takes seconds; only who builds this network pays for it.
        from monai.networks.nets.unet import UNet
    except ImportError as error:
        raise BadConfig("monai_unet needs MONAI: install letheon[torch]") from error
    from torch import nn

    convolution = nn.Conv2d if len(image.space) == 2 else nn.Conv3d
    trunk = UNet(
        spatial_dims=len(image.space),
        in_channels=image.channels,
        # Normalised by groups, which the number of classes could not be divided into.
        out_channels=channels[0],
        channels=tuple(channels),
        strides=(2,) * halvings,
        num_res_units=residual_units,
        norm=("group", {"num_groups": _GROUPS}),
    )
    return nn.Sequential(trunk, convolution(channels[0], classes, kernel_size=1))
