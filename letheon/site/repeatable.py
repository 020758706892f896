"""What makes a training repeatable: same base, seed and records, same weights."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Seeds python, numpy and torch and asks torch for deterministic kernels; all as before after.

    An operation without a deterministic kernel raises, which is better than a delta that nobody
    can make again.
    """
    import torch

    of_python, of_numpy = random.getstate(), np.random.get_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # all that the old generator takes
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            np.random.set_state(of_numpy)
            random.setstate(of_python)
