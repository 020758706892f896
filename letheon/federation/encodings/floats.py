"""One number a value: float32 is exact, float16 and bfloat16 take half the bytes.

float16 keeps a value x within max(2**-11 |x|, 2**-25) and ends at 65504; bfloat16, the upper half
of a float32, keeps x within 2**-8 |x| and ends where float32 does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from letheon.errors import MalformedUpdate
from letheon.federation.encodings.codec import TOP_SHARE, Buffer
from letheon.federation.parameters import Vector


@dataclass(frozen=True)
class Floats:
    """A dtype that numpy has."""

    name: str
    dtype: np.dtype[Any]

    def sizes(self, size: int) -> tuple[int, int]:
        """As `Codec`."""
        return size * self.dtype.itemsize, size * self.dtype.itemsize

    def encode(self, vector: Vector, *, top_share: float = TOP_SHARE) -> bytes:  # noqa: ARG002 (of other encodings)
        """Raises MalformedUpdate(rule=range) if a finite value does not fit.

        Travelling as infinity or as the largest value, it would be another delta than the one
        that was computed.
        """
        with np.errstate(over="ignore"):
            encoded = np.asarray(vector).astype(self.dtype, copy=False)
        if self.dtype.itemsize < 4:
            check_range(self.name, vector, np.isfinite(encoded))
        return encoded.tobytes()

    def decode(self, buffer: Buffer, size: int | None) -> Vector:
        """For float32 a read-only view of the buffer."""
        values = whole(buffer, self.dtype, size, self.name)
        vector: Vector = values.astype(np.float32, copy=False)
        vector.flags.writeable = False
        return vector


@dataclass(frozen=True)
class Bfloat16:
    """The upper 16 bits of a float32, rounded to nearest, ties to even."""

    name: str = "bfloat16"

    def sizes(self, size: int) -> tuple[int, int]:
        """As `Codec`."""
        return 2 * size, 2 * size

    def encode(self, vector: Vector, *, top_share: float = TOP_SHARE) -> bytes:  # noqa: ARG002 (of other encodings)
        """As `Floats.encode`. A NaN stays one."""
        bits = np.ascontiguousarray(vector, dtype="<f4").view("<u4")
        with np.errstate(over="ignore"):
            rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        upper = np.where(np.isnan(vector), 0x7FC0, rounded).astype("<u2")
        check_range(self.name, vector, np.isfinite(_widened(upper)))
        return upper.tobytes()

    def decode(self, buffer: Buffer, size: int | None) -> Vector:
        """As `Codec`."""
        vector = _widened(whole(buffer, np.dtype("<u2"), size, self.name))
        vector.flags.writeable = False
        return vector


def whole(buffer: Buffer, dtype: np.dtype[Any], size: int | None, name: str) -> npt.NDArray[Any]:
    """All of a buffer as numbers. Raises MalformedUpdate(rule=size) if they are not `size`."""
    got = memoryview(buffer).nbytes
    due = got // dtype.itemsize if size is None else size
    if got != due * dtype.itemsize:
        raise MalformedUpdate(
            f"{got} bytes are no {name} vector of {due} values: it has {due * dtype.itemsize}",
            rule="size",
        )
    return np.frombuffer(buffer, dtype=dtype)


def check_range(name: str, vector: Vector, kept: npt.NDArray[np.bool_]) -> None:
    """Raises MalformedUpdate(rule=range) if a finite value was not kept as one."""
    if np.array_equal(kept, np.isfinite(vector)):
        return
    largest = float(np.max(np.abs(vector[np.isfinite(vector)])))
    raise MalformedUpdate(
        f"a value of magnitude {largest:g} does not fit into {name}", rule="range"
    )


def _widened(upper: npt.NDArray[Any]) -> Vector:
    vector: Vector = (upper.astype("<u4") << 16).view("<f4").astype(np.float32, copy=False)
    return vector
