"""How much a series of private trainings can tell of one unit at most: (epsilon, delta).

The accountant is Opacus's, of Renyi differential privacy: Mironov, Talwar and Zhang, arXiv
1908.10530, for the sampled Gaussian mechanism; the conversion is that of Balle et al., AISTATS
2020. It is an upper bound: what is true may be less, never more.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from letheon.errors import BadConfig

NOT_INSTALLED = "private training needs Opacus: pip install 'letheon[privacy]'"

# Fine where epsilon is of order one; the large ones are for noise so strong that epsilon is small.
_ORDERS = (
    *(1 + step / 10 for step in range(1, 100)),
    *range(12, 64),
    *(2**power for power in range(6, 13)),
)


class NoisySteps(NamedTuple):
    """Steps of one training; each takes part of its units at random and adds noise."""

    noise_multiplier: float  # standard deviation of the noise, in units of the clip norm
    sampling_rate: float  # with which each unit takes part in a step
    steps: int


def epsilon_of(spent: Iterable[NoisySteps], delta: float) -> float:
    """Epsilon at `delta` of everything together; the order does not matter. 0 for nothing.

    Raises BadConfig where Opacus is not installed.
    """
    steps: Counter[tuple[float, float]] = Counter()
    for one in spent:
        steps[one.noise_multiplier, one.sampling_rate] += one.steps
    if not any(steps.values()):
        return 0.0
    curves = [[each * count for each in _curve(*kind)] for kind, count in steps.items()]
    total = [math.fsum(at_order) for at_order in zip(*curves, strict=True)]
    from opacus.accountants.analysis import rdp

    with warnings.catch_warnings():
        # That the best order is the first or the last one: the bound holds, and is loose there.
        warnings.simplefilter("ignore")
        epsilon, _ = rdp.get_privacy_spent(orders=list(_ORDERS), rdp=total, delta=delta)
    return max(0.0, float(epsilon))


@lru_cache(maxsize=64)
def _curve(noise_multiplier: float, sampling_rate: float) -> tuple[float, ...]:
    """The Renyi divergence of one step, by order."""
    try:
        from opacus.accountants.analysis import rdp
    except ImportError as error:
        raise BadConfig(NOT_INSTALLED, key="privacy") from error
    found = rdp.compute_rdp(
        q=sampling_rate, noise_multiplier=noise_multiplier, steps=1, orders=list(_ORDERS)
    )
    return tuple(float(each) for each in found)
