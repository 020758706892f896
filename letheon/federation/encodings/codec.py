"""What every encoding offers."""

from __future__ import annotations

from mmap import mmap
from typing import Protocol, TypeAlias

from letheon.federation.parameters import Vector

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap

TOP_SHARE = 0.05  # of the values that `topk` keeps unless the plan says otherwise


class Codec(Protocol):
    """Writes a vector [d] and reads it back; bytes are little-endian.

    Equal vectors give equal bytes, and equal bytes always give equal vectors: what is merged is
    what was decoded, at every replay again.
    """

    def sizes(self, size: int) -> tuple[int, int]:
        """Fewest and most bytes of `size` values."""

    def encode(self, vector: Vector, *, top_share: float = TOP_SHARE) -> bytes:
        """Bytes of the vector. Raises MalformedUpdate(rule=range|finite) for what does not fit."""

    def decode(self, buffer: Buffer, size: int | None) -> Vector:
        """The vector [size], read-only. Raises MalformedUpdate before it allocates more.

        `size` None: the bytes are the reader's own, and say how many values they hold.
        """
