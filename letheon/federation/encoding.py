"""How a vector travels: little-endian float32, or float16 at half the bytes.

float32 is exact. float16 keeps a value x within max(2**-11 |x|, 2**-25) and ends at 65504.
"""

from __future__ import annotations

from mmap import mmap
from typing import Any, TypeAlias

import numpy as np

from letheon.errors import MalformedUpdate
from letheon.federation.parameters import Layout, Vector

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap

ENCODINGS = ("float32", "float16")

_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}


def _dtype(encoding: str) -> np.dtype[Any]:
    if encoding not in _DTYPES:
        raise MalformedUpdate(
            f"no encoding {encoding!r}; there are: {', '.join(ENCODINGS)}", rule="encoding"
        )
    return _DTYPES[encoding]


def encoded_size(layout: Layout, encoding: str) -> int:
    """Bytes of an encoded vector of the layout. Raises MalformedUpdate(rule=encoding)."""
    return layout.size * _dtype(encoding).itemsize


def encode(vector: Vector, encoding: str) -> bytes:
    """Bytes of the vector.

    Raises MalformedUpdate(rule=range) if a finite value does not fit into float16: travelling as
    infinity or as the largest value, it would be another delta than the one that was computed.
    """
    with np.errstate(over="ignore"):
        encoded = np.asarray(vector).astype(_dtype(encoding), copy=False)
    if encoding == "float16" and not np.array_equal(np.isfinite(encoded), np.isfinite(vector)):
        largest = float(np.max(np.abs(vector[np.isfinite(vector)])))
        raise MalformedUpdate(
            f"a value of magnitude {largest:g} does not fit into float16", rule="range"
        )
    return encoded.tobytes()


def decode(buffer: Buffer, encoding: str) -> Vector:
    """The vector in a buffer: for float32 a read-only view of it, for float16 a copy.

    Raises MalformedUpdate(rule=encoding|size).
    """
    dtype = _dtype(encoding)
    size_bytes = memoryview(buffer).nbytes
    if size_bytes % dtype.itemsize:
        raise MalformedUpdate(f"{size_bytes} bytes are no {encoding} vector", rule="size")
    vector: Vector = np.frombuffer(buffer, dtype=dtype).astype(np.float32, copy=False)
    vector.flags.writeable = False
    return vector
