"""Chance that nobody outside can guess: the batches and the noise of private training.

A task's seed comes from the coordinator, and PyTorch's generator on a processor takes 32 bits of
seed: whoever guesses them takes the noise off again. So every bit here is the kernel's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_AT_ONCE = 1 << 18  # numbers: bounds what is held beside the result
_SUMMANDS = 4


@dataclass(frozen=True)
class SecretRandom:
    """`read` gives so many random bytes; another one makes a test repeatable."""

    read: Callable[[int], bytes] = os.urandom

    def uniform(self, count: int) -> Floats:
        """Multiples of 2^-53 in [0, 1). [count]"""
        return self._integers(count) * 2.0**-53

    def gaussian(self, count: int) -> Floats:
        """Of the standard normal distribution. [count]

        Each is half the sum of four by Box and Muller: the double that comes out does then not
        tell which doubles went in (Holohan and Braghin, ESORICS 2021).
        """
        found = np.empty(count)
        for start in range(0, count, _AT_ONCE):
            part = found[start : start + _AT_ONCE]
            part[:] = 0.0
            for _ in range(_SUMMANDS):
                part += self._box_muller(len(part))
        found /= np.sqrt(_SUMMANDS)
        return found

    def _box_muller(self, count: int) -> Floats:
        pairs = (count + 1) // 2
        # In (0, 1]: there is no logarithm of 0.
        length = np.sqrt(-2.0 * np.log((self._integers(pairs) + 1.0) * 2.0**-53))
        angle = 2.0 * np.pi * self.uniform(pairs)
        return np.concatenate([length * np.cos(angle), length * np.sin(angle)])[:count]

    def _integers(self, count: int) -> Floats:
        """Whole numbers of 53 bits. [count]"""
        words = np.frombuffer(self.read(8 * count), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64)
