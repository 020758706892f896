"""Whole numbers of 8 bits with one scale for each block of 1,024 values: a quarter of the bytes.

A block's scale s is its largest magnitude divided by 127, and a value x travels as round(x / s):
it is kept within s / 2. All scales come first, as float32, then the numbers. Used with error
feedback (`client_agent.training_child.feedback`): what rounding took is added to the next delta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from letheon.errors import MalformedUpdate
from letheon.federation.encodings.codec import TOP_SHARE, Buffer
from letheon.federation.parameters import Vector

BLOCK = 1024
_LARGEST = 127
_LARGEST_SCALE = float(np.finfo(np.float32).max) / 256  # times 127 it stays finite


@dataclass(frozen=True)
class Int8:
    """As the module says."""

    def sizes(self, size: int) -> tuple[int, int]:
        """As `Codec`."""
        due = 4 * _blocks(size) + size
        return due, due

    def encode(self, vector: Vector, *, top_share: float = TOP_SHARE) -> bytes:  # noqa: ARG002 (of other encodings)
        """Raises MalformedUpdate(rule=finite): a block with NaN or infinity has no scale."""
        values = _in_blocks(np.asarray(vector, dtype=np.float32))
        scales: Vector = (np.abs(values).max(axis=1, initial=0.0) / np.float32(_LARGEST)).astype(
            "<f4"
        )
        if not np.isfinite(scales).all():
            raise MalformedUpdate("int8 has no way to write NaN or infinity", rule="finite")
        if scales.max(initial=0.0) > _LARGEST_SCALE:
            largest = float(np.abs(values).max())
            raise MalformedUpdate(
                f"a value of magnitude {largest:g} does not fit into int8", rule="range"
            )
        # A block whose scale is not a normal number is too small to be divided: it travels as 0.
        usable = scales >= np.finfo(np.float32).tiny
        scales[~usable] = 0.0
        divisors = np.where(usable, scales, np.float32(1.0))[:, None]
        numbers = np.clip(np.rint(values / divisors), -_LARGEST, _LARGEST)
        numbers[~usable] = 0.0
        travels: bytes = numbers.astype(np.int8).reshape(-1)[: len(vector)].tobytes()
        return bytes(scales.tobytes() + travels)

    def decode(self, buffer: Buffer, size: int | None) -> Vector:
        """Raises MalformedUpdate(rule=size)."""
        view = memoryview(buffer)
        if size is None:
            size = view.nbytes - 4 * -(-view.nbytes // (BLOCK + 4))
        due, _ = self.sizes(size)
        if view.nbytes != due:
            raise MalformedUpdate(
                f"{view.nbytes} bytes are no int8 vector of {size} values: it has {due}",
                rule="size",
            )
        blocks = _blocks(size)
        scales = np.frombuffer(view[: 4 * blocks], dtype="<f4").astype(np.float32)
        numbers = np.frombuffer(view[4 * blocks :], dtype=np.int8)
        values = _in_blocks(numbers.astype(np.float32))
        values *= scales[:, None]
        vector: Vector = values.reshape(-1)[:size]
        vector.flags.writeable = False
        return vector


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _in_blocks(values: Vector) -> Vector:
    """[blocks, BLOCK], a copy filled up with zeros."""
    blocks = _blocks(len(values))
    padded = np.zeros(blocks * BLOCK, np.float32)
    padded[: len(values)] = values
    return padded.reshape(blocks, BLOCK)
