"""The k values of largest magnitude, each with its place; all others travel as zero.

First the number of all values, then the places, each as the distance to the one before (all
uint32; the first from place -1), then the values as float32: eight bytes a value kept. k is a
share of all values, at least one. Used with error feedback (Stich et al., arXiv 1809.07599): what
was left out is added to the next delta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from letheon.errors import MalformedUpdate
from letheon.federation.encodings.codec import TOP_SHARE, Buffer
from letheon.federation.parameters import Vector

_HEAD = 4  # bytes: the number of all values
_EACH = 8  # bytes: distance and value


@dataclass(frozen=True)
class TopK:
    """As the module says."""

    def sizes(self, size: int) -> tuple[int, int]:
        """As `Codec`. The plan's share bounds nothing here: a site may send more, or fewer."""
        return _HEAD + _EACH, _HEAD + _EACH * size

    def encode(self, vector: Vector, *, top_share: float = TOP_SHARE) -> bytes:
        """Raises MalformedUpdate(rule=finite): NaN has no rank."""
        values = np.asarray(vector, dtype=np.float32)
        if not np.isfinite(values).all():
            raise MalformedUpdate("topk has no way to rank NaN or infinity", rule="finite")
        places = _largest(np.abs(values), max(1, round(top_share * len(values))))
        distances = np.diff(places, prepend=-1).astype("<u4")
        head = np.array([len(values)], "<u4").tobytes()
        return head + distances.tobytes() + values[places].astype("<f4").tobytes()

    def decode(self, buffer: Buffer, size: int | None) -> Vector:
        """Raises MalformedUpdate(rule=size|places)."""
        view = memoryview(buffer)
        told = int.from_bytes(view[:_HEAD], "little")
        size = told if size is None else size
        count, rest = divmod(max(0, view.nbytes - _HEAD), _EACH)
        if told != size or rest or not 1 <= count <= size:
            raise MalformedUpdate(
                f"{view.nbytes} bytes are no topk vector of {size} values: it has {_HEAD}, "
                f"which say {size}, and {_EACH} for each of 1 to {size}",
                rule="size",
            )
        split = _HEAD + 4 * count
        distances = np.frombuffer(view[_HEAD:split], dtype="<u4").astype(np.int64)
        places = np.cumsum(distances) - 1
        if distances.min() < 1 or places[-1] >= size:
            raise MalformedUpdate(
                f"a place of the topk vector repeats or lies outside its {size} values",
                rule="places",
            )
        vector: Vector = np.zeros(size, np.float32)
        vector[places] = np.frombuffer(view[split:], dtype="<f4")
        vector.flags.writeable = False
        return vector


def _largest(magnitudes: Vector, count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Places of the `count` largest, ascending; of equals the first ones, so that it is a law."""
    if count >= len(magnitudes):
        return np.arange(len(magnitudes))
    least = np.partition(magnitudes, len(magnitudes) - count)[len(magnitudes) - count]
    above = np.flatnonzero(magnitudes > least)
    equal = np.flatnonzero(magnitudes == least)[: count - len(above)]
    return np.sort(np.concatenate([above, equal]))
