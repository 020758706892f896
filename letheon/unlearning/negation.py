"""Negating weights: rule "negate".

    w_j <- -w_j  for the chosen tensors, so the patch is  p_j = -2 w_j  and zero elsewhere

NoT, arXiv 2503.05657. Which tensors is a parameter; unless named, the first convolution, which is
what the project's prototype measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from letheon.errors import BadConfig

if TYPE_CHECKING:
    from torch import nn

    from letheon.imaging.records import Records
    from letheon.unlearning.ascent import InitialFactory

_CONVOLUTION_FROM = 3  # dimensions: filters, channels and at least one of space


def negate(
    module: nn.Module,
    records: Records | None,  # noqa: ARG001
    parameters: Mapping[str, Any],
    seed: int,  # noqa: ARG001
    initial_factory: InitialFactory,  # noqa: ARG001
) -> dict[str, float]:
    """A rule of `server_rules`: negates tensors of the head in place. Its own inverse, bit for bit.

    `parameters`: {"tensors": names}; none named: the first convolution. The numbers: how many
    elements were negated. Raises BadConfig for an unknown name or parameter, or if the network
    has no convolution to choose.
    """
    import torch

    weights = dict(module.named_parameters())
    chosen = _chosen({name: tuple(weight.shape) for name, weight in weights.items()}, parameters)
    with torch.no_grad():
        for name in chosen:
            weights[name].neg_()
    return {"negated_elements": float(sum(weights[name].numel() for name in chosen))}


def _chosen(shapes: Mapping[str, tuple[int, ...]], parameters: Mapping[str, Any]) -> Sequence[str]:
    if superfluous := parameters.keys() - {"tensors"}:
        raise BadConfig(f"negate takes tensors, not {', '.join(sorted(superfluous))}")
    named: Sequence[str] = parameters.get("tensors") or ()
    if unknown := sorted(set(named) - shapes.keys()):
        raise BadConfig(
            f"negate: the network has no tensor {unknown[0]}; it has {', '.join(shapes)}"
        )
    if named:
        return sorted(set(named))
    for name, shape in shapes.items():
        if len(shape) >= _CONVOLUTION_FROM:
            return (name,)
    raise BadConfig("negate: the network has no convolution; name the tensors to negate")
