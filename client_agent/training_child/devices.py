"""Which processor trains. Imports torch only when it is asked."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from letheon.errors import BadConfig

if TYPE_CHECKING:
    import torch


def choose_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`; auto is the first GPU there is, else cpu.

    Raises BadConfig if a GPU is named that this machine, or this torch, does not have.
    """
    import torch

    if wanted == "auto":
        wanted = "cuda:0" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise BadConfig(
            f'training.device = "{wanted}", but torch {torch.__version__} sees {count} GPUs: set'
            ' "auto" or "cpu", or install the driver and a torch built for it',
            key="training.device",
        )
    return torch.device("cuda", device.index or 0)


def describe(wanted: str) -> dict[str, Any]:
    """What torch sees, and which device would train. Raises as `choose_device`."""
    if importlib.util.find_spec("torch") is None:
        raise BadConfig("torch is not installed here: pip install 'letheon[torch]'")
    import torch

    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        gpus.append({"name": name, "free_bytes": free, "total_bytes": total})
    return {"torch": torch.__version__, "gpus": gpus, "device": str(choose_device(wanted))}
