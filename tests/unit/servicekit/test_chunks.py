"""A chunk read without protobuf says what protobuf says it does."""

from __future__ import annotations

import io

import google_crc32c
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from letheon.servicekit.chunks import RawChunk, chunk_messages, parse_push, read_chunks
from letheon.v1.models_pb2 import Chunk
from letheon.v1.training_pb2 import PushDeltaRequest, UploadHeader

_DATA = st.binary(min_size=1, max_size=300)
_CHUNKS = st.builds(
    Chunk,
    offset=st.integers(0, 2**63 - 1),
    data=_DATA,
    crc32c=st.integers(1, 2**32 - 1),
)


@given(_CHUNKS)
def test_a_chunk_as_protobuf_writes_it_is_read_without_protobuf(chunk: Chunk) -> None:
    read = parse_push(PushDeltaRequest(chunk=chunk).SerializeToString())
    assert read == RawChunk(chunk.offset, chunk.data, chunk.crc32c)
    assert read.header == UploadHeader()  # who authorises a call looks there


@given(st.binary(max_size=60))
def test_whatever_arrives_is_what_protobuf_makes_of_it(message: bytes) -> None:
    _same(message)


@given(_CHUNKS, st.data())
def test_a_damaged_chunk_is_what_protobuf_makes_of_it(chunk: Chunk, data: st.DataObject) -> None:
    message = bytearray(PushDeltaRequest(chunk=chunk).SerializeToString())
    at = data.draw(st.integers(0, min(16, len(message) - 1)))
    message[at] = data.draw(st.integers(0, 255))
    _same(bytes(message[: data.draw(st.integers(0, len(message)))]))
    _same(bytes(message))


def _same(message: bytes) -> None:
    try:
        due = PushDeltaRequest.FromString(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            parse_push(message)
        return
    read = parse_push(message)
    if isinstance(read, RawChunk):
        assert due.HasField("chunk")
        assert read == RawChunk(due.chunk.offset, due.chunk.data, due.chunk.crc32c)
    else:
        assert read == due


def test_a_header_and_odd_chunks_are_left_to_protobuf() -> None:
    header = PushDeltaRequest(header=UploadHeader(update_id="u"))
    without_checksum = PushDeltaRequest(chunk=Chunk(offset=1, data=b"x"))
    for message in (header, without_checksum):
        assert parse_push(message.SerializeToString()) == message


@given(st.binary(max_size=100), st.integers(1, 40))
def test_filled_messages_hold_the_chunks_of_the_file(data: bytes, chunk_bytes: int) -> None:
    messages = list(chunk_messages(PushDeltaRequest, io.BytesIO(data), 0, len(data), chunk_bytes))
    assert [m.chunk for m in messages] == list(
        read_chunks(io.BytesIO(data), 0, len(data), chunk_bytes)
    )
    assert b"".join(m.chunk.data for m in messages) == data
    assert all(m.chunk.crc32c == google_crc32c.value(m.chunk.data) for m in messages)
