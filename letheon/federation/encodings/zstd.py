"""Zstandard around another encoding. Bytes of other compressor versions decode all the same."""

from __future__ import annotations

from dataclasses import dataclass

import zstandard

from letheon.errors import MalformedUpdate
from letheon.federation.encodings.codec import TOP_SHARE, Buffer, Codec
from letheon.federation.parameters import Vector

_LEVEL = 3
_MOST = 2**40  # bytes; no vector has as many


@dataclass(frozen=True)
class Zstd:
    """One frame that says how long its content is."""

    name: str
    inner: Codec

    def sizes(self, size: int) -> tuple[int, int]:
        """What does not shrink grows by what a frame costs."""
        _, most = self.inner.sizes(size)
        return 1, most + (most >> 8) + 128

    def encode(self, vector: Vector, *, top_share: float = TOP_SHARE) -> bytes:
        """As `Codec`."""
        content = self.inner.encode(vector, top_share=top_share)
        packed: bytes = zstandard.ZstdCompressor(level=_LEVEL).compress(content)
        return packed

    def decode(self, buffer: Buffer, size: int | None) -> Vector:
        """Raises MalformedUpdate(rule=size|compression), before a longer content is unpacked."""
        view = memoryview(buffer)
        try:
            told = zstandard.get_frame_parameters(view).content_size
        except zstandard.ZstdError as error:
            raise self._damaged() from error
        # A frame that says nothing says the largest number there is.
        most = _MOST if size is None else self.inner.sizes(size)[1]
        if told > most:
            raise MalformedUpdate(
                f"the {self.name} vector says its content has {told} bytes; at most {most} are due",
                rule="size",
            )
        try:
            content = zstandard.ZstdDecompressor().decompress(
                view, max_output_size=told, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise self._damaged() from error
        return self.inner.decode(content, size)

    def _damaged(self) -> MalformedUpdate:
        return MalformedUpdate(f"the {self.name} vector is no whole frame", rule="compression")
