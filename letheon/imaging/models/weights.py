"""Weights of a network as named arrays, and networks with reproducible initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from letheon import registry
from letheon.errors import BadConfig, MalformedUpdate
from letheon.imaging.models.model import Spec


def read_weights(module: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Copies of the parameters, float32, in the module's own order: the order of the layout."""
    return {
        name: parameter.detach().cpu().numpy().astype(np.float32, copy=True)
        for name, parameter in module.named_parameters()
    }


def write_weights(module: nn.Module, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Copies the arrays into the parameters.

    Raises MalformedUpdate(rule, tensor) if names or shapes differ; the module is then unchanged.
    """
    parameters = dict(module.named_parameters())
    if odd := sorted(parameters.keys() ^ weights.keys()):
        verb = "lack" if odd[0] in parameters else "have an unknown"
        raise MalformedUpdate(f"the weights {verb} tensor {odd[0]}", rule="names", tensor=odd[0])
    for name, parameter in parameters.items():
        if tuple(weights[name].shape) != tuple(parameter.shape):
            raise MalformedUpdate(
                f"tensor {name} has shape {list(weights[name].shape)}, "
                f"the network wants {list(parameter.shape)}",
                rule="shape",
                tensor=name,
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            # torch.tensor copies: the arrays may be read-only views of a mapped file.
            parameter.copy_(torch.tensor(weights[name], dtype=torch.float32))


def initialise(
    plugin: str, arguments: Mapping[str, Any], spec: Spec, classes: int, seed: int
) -> nn.Module:
    """Builds a registered network; same arguments and seed, same weights.

    The global random state of torch is left as it was. Raises UnknownPlugin, or BadConfig if
    the arguments do not fit or the network keeps state besides float32 parameters.
    """
    if taken := {"spec", "classes"} & arguments.keys():
        raise BadConfig(f"{', '.join(sorted(taken))} comes from the plan, not from the arguments")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = registry.build(
            registry.MODELS, plugin, {**arguments, "spec": spec, "classes": classes}
        )
    if not isinstance(module, nn.Module):
        raise BadConfig(f"model plug-in {plugin!r} built a {type(module).__name__}, not a module")
    _check_state(plugin, module)
    return module


def _check_state(plugin: str, module: nn.Module) -> None:
    kept = module.state_dict().keys()
    if statistics := [name for name, _ in module.named_buffers() if name in kept]:
        raise BadConfig(
            f"model {plugin!r} keeps {statistics[0]} besides its parameters; running statistics "
            "are neither merged nor erased: use GroupNorm in place of BatchNorm"
        )
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise BadConfig(f"parameter {name} of model {plugin!r} is not float32")
