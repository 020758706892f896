"""A DenseNet of MONAI for images and volumes, small, with GroupNorm in place of BatchNorm.

Huang et al., CVPR 2017 (arXiv 1608.06993). GroupNorm, because running statistics of a
BatchNorm cannot be merged, nor subtracted again, as parameters can.
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
    init_features: int = 16,
    growth_rate: int = 8,
    block_config: Sequence[int] = (2, 2, 2),
) -> nn.Module:
    """The network; `init_features` and `growth_rate` are multiples of 8.

    Images must be large enough to be halved once for the stem, once after it and once between
    blocks: 16x16 with three blocks. Raises BadConfig where MONAI is not installed.
    """
    if init_features % (2 * _GROUPS) or growth_rate % (2 * _GROUPS):
        raise ValueError(f"init_features and growth_rate must be multiples of {2 * _GROUPS}")
    smallest = 2 ** (len(block_config) + 1)
    image = image_spec(spec, dimensions=(2, 3), smallest=smallest)
    try:
        # Importing MONAI takes seconds; only who builds this network pays for it.
        from monai.networks.nets.densenet import DenseNet
    except ImportError as error:
        raise BadConfig("monai_densenet needs MONAI: install letheon[torch]") from error
    network: nn.Module = DenseNet(
        spatial_dims=len(image.space),
        in_channels=image.channels,
        out_channels=classes,
        init_features=init_features,
        growth_rate=growth_rate,
        block_config=tuple(block_config),
        bn_size=2,
        norm=("group", {"num_groups": _GROUPS}),
    )
    return network
