"""How a vector travels: which encodings there are, and what they do to a delta.

`float32` is exact. `float16` and `bfloat16` take half the bytes, `int8` a quarter, `topk` eight
bytes for each value that is kept. `+zstd` behind a name compresses what it wrote. `int8` and
`topk` lose so much that they need error feedback, and only deltas travel so: a patch that takes
influence out must take it out whole.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from letheon.errors import MalformedUpdate
from letheon.federation.encodings.codec import TOP_SHARE as TOP_SHARE
from letheon.federation.encodings.codec import Buffer as Buffer
from letheon.federation.encodings.codec import Codec
from letheon.federation.encodings.floats import Bfloat16, Floats
from letheon.federation.encodings.int8 import Int8
from letheon.federation.encodings.topk import TopK
from letheon.federation.encodings.zstd import Zstd
from letheon.federation.parameters import Layout, Vector

_PLAIN: Final[dict[str, Codec]] = {
    "float32": Floats("float32", np.dtype("<f4")),
    "float16": Floats("float16", np.dtype("<f2")),
    "bfloat16": Bfloat16(),
    "int8": Int8(),
    "topk": TopK(),
}
_CODECS: Final[dict[str, Codec]] = _PLAIN | {
    f"{name}+zstd": Zstd(f"{name}+zstd", codec) for name, codec in _PLAIN.items()
}
ENCODINGS: Final = tuple(_CODECS)
_WITH_FEEDBACK: Final = ("int8", "topk")


def check_encoding(encoding: str) -> None:
    """Raises MalformedUpdate(rule=encoding) for a name that is none."""
    _codec(encoding)


def needs_feedback(encoding: str) -> bool:
    """Whether what the encoding loses is to be added to the next delta."""
    return encoding.removesuffix("+zstd") in _WITH_FEEDBACK


def exact_encoding(encoding: str) -> str:
    """How patches and answers travel where deltas travel by `encoding`."""
    return "float32" if needs_feedback(encoding) else encoding


def size_limits(layout: Layout, encoding: str) -> tuple[int, int]:
    """Fewest and most bytes of an encoded vector of the layout. Raises as `check_encoding`."""
    return _codec(encoding).sizes(layout.size)


def encode(vector: Vector, encoding: str, *, top_share: float = TOP_SHARE) -> bytes:
    """Bytes of the vector [d]. `top_share` is the share of values that `topk` keeps.

    Raises MalformedUpdate: rule=encoding, rule=range if a finite value does not fit, rule=finite
    if the encoding cannot write NaN or infinity.
    """
    return _codec(encoding).encode(vector, top_share=top_share)


def decode(buffer: Buffer, encoding: str, size: int | None = None) -> Vector:
    """The vector [size] in a buffer, read-only; for float32 a view of it.

    Raises MalformedUpdate(rule=encoding|size|places|compression). With a size nothing larger is
    allocated, whatever the bytes say: give it for all that came from elsewhere.
    """
    return _codec(encoding).decode(buffer, size)


def _codec(encoding: str) -> Codec:
    if encoding not in _CODECS:
        raise MalformedUpdate(
            f"no encoding {encoding!r}; there are: {', '.join(ENCODINGS)}", rule="encoding"
        )
    return _CODECS[encoding]
