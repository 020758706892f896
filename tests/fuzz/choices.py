"""The bytes of a fuzzer as a sequence of choices, so that real objects can be bent by them.

Bytes that ran out choose the first of everything, so that the empty input is the plainest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads from the front."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, most: int) -> int:
        """0 to `most`, of as few bytes as hold it."""
        width = (most.bit_length() + 7) // 8
        taken = int.from_bytes(self.bytes(width).ljust(width, b"\0"), "big")
        return taken if taken <= most else taken % (most + 1)

    def flag(self) -> bool:
        """False for 0 and for three quarters of all bytes."""
        return self.number(255) >= 192

    def pick(self, among: Sequence[T]) -> T:
        """One of these, at most 256."""
        return among[self.number(255) % len(among)]

    def bytes(self, size: int) -> bytes:
        """The next ones, fewer at the end."""
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found

    def some_bytes(self, most: int) -> bytes:
        """As many as the next number says."""
        return self.bytes(self.number(most))

    def text(self, most: int = 40) -> str:
        """Any characters, lone surrogates among them."""
        return self.some_bytes(most).decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        """All that is left."""
        return self.bytes(len(self._data) - self._at)
