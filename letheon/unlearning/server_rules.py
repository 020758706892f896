"""Patches computed beside the coordinator, by name: what a `ComputePatch` step asks for.

A rule is given the head in a network, the calibrator's own labelled images (None if it has none),
the step's parameters, a seed, and a maker of networks with new random weights by seed. It changes
the network in place, and the patch is what the weights changed by; it returns numbers for the
certificate. No rule needs anything of the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from letheon.errors import BadConfig
from letheon.imaging.records import Records
from letheon.unlearning.ascent import InitialFactory
from letheon.unlearning.distillation import distil_head
from letheon.unlearning.negation import negate

if TYPE_CHECKING:
    from torch import nn

Rule: TypeAlias = Callable[
    ["nn.Module", Records | None, Mapping[str, Any], int, InitialFactory], Mapping[str, float]
]

RULES: Mapping[str, Rule] = {"distil": distil_head, "negate": negate}


def find_rule(name: str) -> Rule:
    """The rule of that name. Raises BadConfig, naming those there are."""
    if name not in RULES:
        raise BadConfig(f"there is no rule {name!r} for a patch; there are: {', '.join(RULES)}")
    return RULES[name]
