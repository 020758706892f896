"""Deltas: every encoding, damaged, of a stranger, and frames that promise more than they hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import zstandard

from letheon.errors import MalformedUpdate
from letheon.federation.encoding import ENCODINGS, decode, encode

from ..choices import Choices
from ..target import Target, promise

_SIZES = (300, 1, 0, 1023, 1024, 1025, 5000)
_WAYS = ("damaged", "any", "framed", "frames")


def run(data: bytes) -> bool:
    choices = Choices(data)
    encoding = choices.pick(ENCODINGS)
    size = choices.pick(_SIZES)
    payload = _payload(choices, encoding, size)
    try:
        vector = decode(payload, encoding, size)
    except MalformedUpdate:
        return False
    promise(vector.shape == (size,), "a vector of the size that was asked for")
    promise(vector.dtype == np.float32, "of float32")
    promise(not vector.flags.writeable, "that nobody can change")
    promise(decode(payload, encoding, size).tobytes() == vector.tobytes(), "the same every time")
    if encoding == "float32":
        promise(encode(vector, encoding) == payload, "float32 is exact")
    return True


def _payload(choices: Choices, encoding: str, size: int) -> bytes:
    way = choices.pick(_WAYS)
    if way == "any":
        return choices.rest()
    if way == "damaged":
        return _damaged(choices, encode(_vector(size), encoding))
    plain = encoding.removesuffix("+zstd")
    content = _damaged(choices, encode(_vector(size), plain))
    frame = _frame(content, choices)
    if way == "frames":
        frame += _frame(choices.some_bytes(255), choices)
    return _damaged(choices, frame)


def _vector(size: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.linspace(-1, 1, size, dtype=np.float32)


def _frame(content: bytes, choices: Choices) -> bytes:
    kind = choices.number(255) % 8
    if kind == 6:  # nothing but what a reader skips
        return b"\x50\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
    told = kind in (0, 1, 2)
    packer = zstandard.ZstdCompressor(level=1, write_content_size=told, write_checksum=kind == 1)
    if kind != 5:
        return packer.compress(content)
    # It says how much there is, and holds little.
    promised = choices.pick((len(content) + 1, 10**6, 10**9, 2**40, 2**62))
    packer = zstandard.ZstdCompressor(level=1)
    return packer.compressobj(size=promised).compress(content) + content[:64]


def _damaged(choices: Choices, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(choices.number(255) % 4):
        at, how = choices.number(0xFFFF), choices.number(255) % 4
        at %= len(changed) + 1
        if how == 0 and at < len(changed):
            changed[at] ^= choices.number(255)
        elif how == 1:
            changed[at:at] = choices.some_bytes(16)
        elif how == 2:
            del changed[at : at + choices.number(255)]
        else:
            changed[at : at + 4] = choices.bytes(4)
    return bytes(changed)


def _seeds() -> Iterator[bytes]:
    for number, encoding in enumerate(ENCODINGS):
        for size in range(len(_SIZES)):
            yield bytes([number, size, 0, 0])
        yield bytes([number, 0, 1]) + encode(_vector(300), encoding)
        for kind in range(8):
            yield bytes([number, 0, 2, 0, kind, 0])
            yield bytes([number, 0, 3, 0, kind, 3, 97, 98, 99, kind, 0])


TARGET = Target("deltas", "letheon.federation.encoding.decode, all encodings", run, _seeds)
