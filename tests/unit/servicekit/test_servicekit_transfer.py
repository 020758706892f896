import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import (
    ChecksumMismatch,
    CoordinatorUnreachable,
    MalformedUpdate,
    OffsetMismatch,
    SiteFenced,
    UploadBusy,
)
from letheon.servicekit import transfer
from letheon.servicekit.transfer import CHUNK_BYTES, check_chunk, read_chunks
from letheon.v1.models_pb2 import Chunk
from letheon.v1.training_pb2 import (
    DeltaPurpose,
    PushDeltaRequest,
    PushDeltaResponse,
    QueryUploadRequest,
    QueryUploadResponse,
    Receipt,
    UploadHeader,
)

SIZE = 5 * CHUNK_BYTES + 17
PAYLOAD = hashlib.shake_256(b"delta").digest(SIZE)


def a_chunk(offset: int = 0, data: bytes = b"abc") -> Chunk:
    return Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))


@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_chunks_put_together_are_the_bytes_between_the_offsets(one: int, two: int) -> None:
    offset, end = sorted((one, two))
    seen = offset
    data = b""
    for chunk in read_chunks(io.BytesIO(PAYLOAD), offset, end):
        check_chunk(chunk, seen)
        seen += len(chunk.data)
        data += chunk.data
    assert data == PAYLOAD[offset:end]


def test_a_file_that_is_too_short_is_noticed() -> None:
    with pytest.raises(EOFError, match="ends at byte 3"):
        list(read_chunks(io.BytesIO(b"abc"), 0, 4))


def test_a_damaged_chunk_is_refused() -> None:
    chunk = a_chunk()
    chunk.data = b"abd"
    with pytest.raises(ChecksumMismatch):
        check_chunk(chunk, 0)


def test_a_chunk_out_of_place_tells_where_to_go_on() -> None:
    with pytest.raises(OffsetMismatch) as caught:
        check_chunk(a_chunk(offset=5), 3)
    assert caught.value.facts["committed_bytes"] == "3"


@pytest.mark.parametrize("data", [b"", b"x" * (CHUNK_BYTES + 1)])
def test_an_empty_or_too_large_chunk_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedUpdate):
        check_chunk(a_chunk(data=data), 0)


class Coordinator:
    """Keeps one upload as the real one does; `faults` are raised, one per stream, on the way."""

    def __init__(self, faults: Iterable[Exception | None] = (), after_bytes: int = 0) -> None:
        self.held = bytearray()
        self.streams: list[int] = []
        self.sites: list[str] = []
        self.receipt: Receipt | None = None
        self._faults = iter(faults)
        self._after_bytes = after_bytes

    def query(self, request: QueryUploadRequest) -> QueryUploadResponse:
        self.sites.append(request.site)
        if self.receipt is not None:
            return QueryUploadResponse(receipt=self.receipt)
        return QueryUploadResponse(committed_bytes=len(self.held))

    def push_delta(self, requests: Iterator[PushDeltaRequest], timeout: float) -> PushDeltaResponse:
        header = next(requests).header
        self.streams.append(header.offset)
        if header.offset != len(self.held):
            raise OffsetMismatch("resume", committed_bytes=len(self.held))
        fault = next(self._faults, None)
        begun = len(self.held)
        for request in requests:
            if fault is not None and len(self.held) - begun >= self._after_bytes:
                raise fault
            check_chunk(request.chunk, len(self.held))
            self.held += request.chunk.data
        if len(self.held) < header.size_bytes:
            return PushDeltaResponse(committed_bytes=len(self.held))
        self.receipt = Receipt(update_id=header.update_id, version=4)
        return PushDeltaResponse(receipt=self.receipt)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "delta"
    path.write_bytes(PAYLOAD)
    return path


def push(coordinator: Coordinator, payload: Path, segment: int = 2 * CHUNK_BYTES) -> Receipt:
    header = UploadHeader(
        update_id="u1",
        size_bytes=SIZE,
        sha256=hashlib.sha256(PAYLOAD).digest(),
        offset=99,  # the sender's own idea does not matter
        delta=DeltaPurpose(site="sites/north"),
    )
    return transfer.push(
        coordinator.push_delta, header, payload, query=coordinator.query, segment_bytes=segment
    )


def test_a_large_payload_travels_as_several_streams(payload: Path) -> None:
    coordinator = Coordinator()
    assert push(coordinator, payload).version == 4
    assert coordinator.streams == [0, 2 * CHUNK_BYTES, 4 * CHUNK_BYTES]
    assert bytes(coordinator.held) == PAYLOAD
    assert coordinator.sites == ["sites/north"]


def test_an_accepted_upload_returns_its_first_receipt_without_sending(payload: Path) -> None:
    coordinator = Coordinator()
    first = push(coordinator, payload)
    coordinator.streams.clear()
    assert push(coordinator, payload) == first
    assert coordinator.streams == []


def test_an_upload_goes_on_where_the_durable_bytes_end(payload: Path) -> None:
    coordinator = Coordinator([CoordinatorUnreachable("gone")], after_bytes=CHUNK_BYTES)
    with pytest.raises(CoordinatorUnreachable):
        push(coordinator, payload)
    push(coordinator, payload)
    assert coordinator.streams[:2] == [0, CHUNK_BYTES]
    assert bytes(coordinator.held) == PAYLOAD


def test_an_offset_mismatch_is_healed_by_the_committed_bytes(payload: Path) -> None:
    coordinator = Coordinator()
    answers = iter([QueryUploadResponse(committed_bytes=CHUNK_BYTES)])
    coordinator.query = lambda request: next(answers)  # type: ignore[method-assign]
    push(coordinator, payload)
    assert coordinator.streams[:2] == [CHUNK_BYTES, 0]
    assert bytes(coordinator.held) == PAYLOAD


def test_a_damaged_chunk_is_sent_again(payload: Path) -> None:
    coordinator = Coordinator([ChecksumMismatch("damaged")], after_bytes=CHUNK_BYTES)
    push(coordinator, payload)
    assert coordinator.streams[:2] == [0, CHUNK_BYTES]
    assert bytes(coordinator.held) == PAYLOAD


def test_bytes_that_are_committed_but_not_accepted_need_one_more_stream(payload: Path) -> None:
    coordinator = Coordinator()
    coordinator.held += PAYLOAD
    assert push(coordinator, payload).version == 4
    assert coordinator.streams == [SIZE]


@pytest.mark.parametrize("error", [UploadBusy("busy"), SiteFenced("fenced")])
def test_any_other_refusal_is_the_callers(payload: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        push(Coordinator([error]), payload)


def test_an_upload_that_never_moves_ends_in_an_error(payload: Path) -> None:
    coordinator = Coordinator(ChecksumMismatch("damaged") for _ in range(100))
    with pytest.raises(ChecksumMismatch):
        push(coordinator, payload)
    assert len(coordinator.streams) < 10


def test_an_upload_that_is_damaged_again_and_again_ends_though_it_moves(payload: Path) -> None:
    coordinator = Coordinator(ChecksumMismatch("damaged") if n % 2 else None for n in range(100))
    query = coordinator.query

    def discard(request: QueryUploadRequest) -> QueryUploadResponse:
        coordinator.held.clear()
        return query(request)

    coordinator.query = discard  # type: ignore[method-assign]
    with pytest.raises(ChecksumMismatch):
        push(coordinator, payload)


def test_a_coordinator_that_commits_nothing_is_not_asked_for_ever(payload: Path) -> None:
    coordinator = Coordinator()
    coordinator.push_delta = (  # type: ignore[method-assign]
        lambda requests, timeout: PushDeltaResponse(committed_bytes=0)
    )
    with pytest.raises(CoordinatorUnreachable, match="byte 0"):
        push(coordinator, payload)


def test_more_committed_bytes_than_the_payload_has_are_an_error(payload: Path) -> None:
    coordinator = Coordinator()
    coordinator.held += PAYLOAD + b"x"
    with pytest.raises(OffsetMismatch):
        push(coordinator, payload)
