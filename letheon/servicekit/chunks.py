"""Chunks: at most 1 MiB of a payload with its offset and crc32c, copied as rarely as can be.

Protobuf copies a chunk when it is put into a message, when the message is written, when it is
read, and at every look at `data`. Writers here fill the chunk of the message itself; the server
cuts the data out of the bytes that arrived, once (docs/decisions/0039-a-chunk-is-copied-once.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol, TypeVar

import google_crc32c

from letheon.errors import ChecksumMismatch, MalformedUpdate, OffsetMismatch
from letheon.v1.models_pb2 import Chunk
from letheon.v1.training_pb2 import PushDeltaRequest, UploadHeader

CHUNK_BYTES: Final = 1024 * 1024
_OFFSET, _DATA, _CRC32C = 0x08, 0x12, 0x1D  # tags of Chunk's fields
_CHUNK = PushDeltaRequest.CHUNK_FIELD_NUMBER << 3 | 2


class _HasChunk(Protocol):
    """A message one of whose parts is a chunk."""

    @property
    def chunk(self) -> Chunk: ...


_Message = TypeVar("_Message", bound=_HasChunk)


@dataclass(frozen=True, slots=True)
class RawChunk:
    """What a `Chunk` says; its data is an object, and not a copy at every look."""

    offset: int
    data: bytes
    crc32c: int

    @property
    def header(self) -> UploadHeader:
        """An empty one, as protobuf answers of a message that has a chunk in its place."""
        return UploadHeader()


def read_chunks(
    file: BinaryIO, offset: int, end: int, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Chunk]:
    """Chunks of the bytes [offset, end) of a file. Raises EOFError if it is shorter than `end`."""
    for data in _blocks(file, offset, end, chunk_bytes):
        yield Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))
        offset += len(data)


def chunk_messages(
    make: Callable[[], _Message],
    file: BinaryIO,
    offset: int,
    end: int,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[_Message]:
    """The same chunks, each as the chunk of a message that `make` makes."""
    for data in _blocks(file, offset, end, chunk_bytes):
        message = make()
        chunk = message.chunk
        chunk.offset, chunk.data, chunk.crc32c = offset, data, google_crc32c.value(data)
        yield message
        offset += len(data)


def check_chunk(chunk: Chunk | RawChunk, expected_offset: int) -> bytes:
    """The data of a chunk, once size, offset and checksum, in this order, were found right.

    Raises MalformedUpdate (empty, or above 1 MiB), OffsetMismatch with `committed_bytes`,
    ChecksumMismatch.
    """
    data = chunk.data  # of a message every look is a copy
    size = len(data)
    if not 0 < size <= CHUNK_BYTES:
        raise MalformedUpdate(
            f"a chunk holds 1 to {CHUNK_BYTES} bytes, this one {size}", rule="chunk"
        )
    if chunk.offset != expected_offset:
        raise OffsetMismatch(
            f"chunk at {chunk.offset}, expected {expected_offset}", committed_bytes=expected_offset
        )
    if google_crc32c.value(data) != chunk.crc32c:
        raise ChecksumMismatch(f"chunk at {chunk.offset} arrived damaged", offset=chunk.offset)
    return data


def parse_push(message: bytes) -> PushDeltaRequest | RawChunk:
    """A message of an upload; a chunk as a RawChunk if it is written the way protobuf writes one.

    Anything else is left to protobuf, which raises DecodeError for what is no message at all.
    """
    chunk = _raw_chunk(message)
    return PushDeltaRequest.FromString(message) if chunk is None else chunk


def _raw_chunk(message: bytes) -> RawChunk | None:
    """None unless the message is one chunk with fields in order, each at most once."""
    if not message or message[0] != _CHUNK:
        return None
    try:
        size, at = _varint(message, 1)
        if at + size != len(message):
            return None
        offset = 0
        if message[at] == _OFFSET:
            offset, at = _varint(message, at + 1)
        if message[at] != _DATA:
            return None
        size, at = _varint(message, at + 1)
    except IndexError:
        return None
    rest = message[at + size :]
    if len(rest) != 5 or rest[0] != _CRC32C or offset >> 63:
        return None
    # Not a memoryview: the checksum takes only what is bytes, and this copy stays in the cache.
    return RawChunk(offset, message[at : at + size], int.from_bytes(rest[1:], "little"))


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends. Raises IndexError if it does not, or is no 64-bit number."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, at
    raise IndexError(at)


def _blocks(file: BinaryIO, offset: int, end: int, chunk_bytes: int) -> Iterator[bytes]:
    file.seek(offset)
    while offset < end:
        data = file.read(min(chunk_bytes, end - offset))
        if not data:
            raise EOFError(f"the file ends at byte {offset}, {end} were promised")
        yield data
        offset += len(data)
