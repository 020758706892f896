"""Layouts and payloads of a size, from fixed seeds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from letheon.federation.parameters import Layout, TensorSpec, Vector

VALUES_PER_MB = 262_144  # float32
LAYOUTS = (8, 160)  # tensors
SCALE = 0.01


@dataclass(frozen=True)
class Payload:
    """A file of little-endian float32 values."""

    path: Path
    sha256: bytes
    size_bytes: int


def layout_of(megabytes: int, tensors: int) -> Layout:
    """1 or 8 equal tensors; 160: as in a dense network, 40 large ones and 120 tiny ones."""
    values = megabytes * VALUES_PER_MB
    if tensors in (1, 8):
        return Layout(tuple(TensorSpec(f"block{i}", (values // tensors,)) for i in range(tensors)))
    small = max(1, values // 40_000)
    large = (values - 120 * small) // 40
    last = values - 120 * small - 39 * large
    specs = [TensorSpec(f"layer{i}.norm", (small,)) for i in range(120)]
    specs += [TensorSpec(f"layer{i}.weight", (large if i < 39 else last,)) for i in range(40)]
    return Layout(tuple(specs))


def noise(values: int, seed: int = 0) -> Vector:
    """Normal noise [values]: nothing in it can be compressed or shared."""
    vector: Vector = np.random.default_rng(seed).standard_normal(values, dtype=np.float32)
    vector *= np.float32(SCALE)
    return vector


class Payloads:
    """Files that differ from each other: a store that names payloads by digest gains nothing."""

    def __init__(self, directory: Path, values: int) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._noise = noise(values)
        self._made = 0

    def next(self) -> Payload:
        """One more, different from all before it."""
        self._made += 1
        data = np.roll(self._noise, 1009 * self._made).astype("<f4", copy=False).tobytes()
        path = self._directory / f"{self._made % 32}.delta"
        path.write_bytes(data)
        return Payload(path, hashlib.sha256(data).digest(), len(data))
