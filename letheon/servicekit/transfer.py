"""Payloads on the wire: 1 MiB chunks with offset and crc32c, resumable in both directions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.errors import (
    ChecksumMismatch,
    CoordinatorUnreachable,
    DigestMismatch,
    MalformedUpdate,
    NotFound,
    OffsetMismatch,
    Refused,
)
from letheon.servicekit.chunks import CHUNK_BYTES as CHUNK_BYTES
from letheon.servicekit.chunks import check_chunk as check_chunk
from letheon.servicekit.chunks import chunk_messages
from letheon.servicekit.chunks import read_chunks as read_chunks
from letheon.servicekit.part_file import PartFile
from letheon.v1.models_pb2 import DownloadModelRequest, DownloadModelResponse, Model
from letheon.v1.training_pb2 import (
    PushDeltaRequest,
    PushDeltaResponse,
    QueryUploadRequest,
    QueryUploadResponse,
    Receipt,
    UploadHeader,
)

SEGMENT_BYTES = 64 * CHUNK_BYTES
# A whole model over 1 Mbit/s is slow, not dead; dead peers are found by keepalive.
TRANSFER_DEADLINE_S = 30 * 60.0
# Refused streams in one call; then the caller backs off before it goes on.
_REFUSALS = 5
_LOG = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]  # bytes done, bytes in all
OnHeader = Callable[[Model], None]
PushDelta = Callable[..., PushDeltaResponse]  # the stub's method: (requests, timeout=seconds)
QueryUpload = Callable[[QueryUploadRequest], QueryUploadResponse]
DownloadModel = Callable[..., Iterable[DownloadModelResponse]]  # (request, timeout=seconds)


@dataclass(frozen=True)
class Downloaded:
    """A complete, verified file."""

    version: int
    epoch: int
    path: Path
    sha256: str  # hex


def push(
    push_delta: PushDelta,
    header: UploadHeader,
    path: Path,
    *,
    query: QueryUpload,
    segment_bytes: int = SEGMENT_BYTES,
    chunk_bytes: int = CHUNK_BYTES,
    timeout_s: float = TRANSFER_DEADLINE_S,
    inspect: Callable[[], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Receipt:
    """Sends the file behind `header` (its offset is ignored) and returns the receipt.

    Begins at the committed bytes, goes on in segments, one stream each of at most `timeout_s`.
    Calling it again after any error, or a restart, continues; an accepted upload returns its
    first receipt. `inspect` is called once, before the first byte leaves and only if there is no
    receipt: it may refuse a file that is not the one that was written, by raising.

    Raises what the coordinator answers: UploadBusy, Busy and CoordinatorUnreachable mean that the
    caller backs off and calls again.
    """
    question = QueryUploadRequest(update_id=header.update_id, site=_sender(header))
    state: PushDeltaResponse | QueryUploadResponse = query(question)
    refusals = 0
    if inspect is not None and state.WhichOneof("outcome") != "receipt":
        inspect()
    while state.WhichOneof("outcome") != "receipt":
        offset = _committed(state, header)
        if on_progress is not None:
            on_progress(offset, header.size_bytes)
        end = min(offset + segment_bytes, header.size_bytes)
        try:
            state = push_delta(_segment(header, path, offset, end, chunk_bytes), timeout=timeout_s)
        except (OffsetMismatch, ChecksumMismatch) as error:
            if refusals == _REFUSALS:
                raise
            refusals += 1
            state = _after(error, query, question)
            _LOG.info("upload_resumed", extra={"update": header.update_id, "why": error.reason})
            continue
        if state.WhichOneof("outcome") != "receipt" and state.committed_bytes <= offset:
            raise CoordinatorUnreachable(f"the upload stays at byte {offset}")
    if on_progress is not None:
        on_progress(header.size_bytes, header.size_bytes)
    return state.receipt


def _committed(state: PushDeltaResponse | QueryUploadResponse, header: UploadHeader) -> int:
    if not 0 <= state.committed_bytes <= header.size_bytes:
        raise OffsetMismatch(
            f"{state.committed_bytes} bytes are committed of a payload of {header.size_bytes}",
            committed_bytes=state.committed_bytes,
        )
    return state.committed_bytes


def _after(
    error: OffsetMismatch | ChecksumMismatch, query: QueryUpload, question: QueryUploadRequest
) -> QueryUploadResponse:
    committed = error.facts.get("committed_bytes", "")
    if isinstance(error, OffsetMismatch) and committed.isdecimal():
        return QueryUploadResponse(committed_bytes=int(committed))
    return query(question)


def _sender(header: UploadHeader) -> str:
    purpose = header.WhichOneof("purpose")
    if purpose == "delta":
        return header.delta.site
    return header.answer.site if purpose == "answer" else ""


def _segment(
    header: UploadHeader, path: Path, offset: int, end: int, chunk_bytes: int
) -> Iterator[PushDeltaRequest]:
    """One stream. It owns its file: gRPC reads it on a thread that may outlive a failed call."""
    first = UploadHeader()
    first.CopyFrom(header)
    first.offset = offset
    yield PushDeltaRequest(header=first)
    with path.open("rb") as file:
        yield from chunk_messages(PushDeltaRequest, file, offset, end, chunk_bytes)


def download(
    download_model: DownloadModel,
    path: Path,
    *,
    name: str,
    reader: str = "",
    timeout_s: float = TRANSFER_DEADLINE_S,
    on_progress: OnProgress | None = None,
    on_header: OnHeader | None = None,
) -> Downloaded:
    """Downloads `name` (`models/{version}`, `models/head`, `models/serving`) to `path`.

    Bytes are collected in `{path}.part`; calling it again after CoordinatorUnreachable or Busy,
    or after a restart, continues there with the version of the first header. If that version
    is gone (NotFound, ModelDestroyed) the part is removed and the error raised: the next call
    begins anew. `on_header` sees each header before any byte is kept, and may refuse by raising.
    Raises DigestMismatch if the complete bytes are not the promised ones.
    """
    part = PartFile(path)
    held = part.header()
    if held is not None and (held.name == name or _moving(name)):
        try:
            return _fetch(download_model, part, held, reader, timeout_s, on_progress, on_header)
        except (OffsetMismatch, DigestMismatch) as error:
            _LOG.warning("download_restarted", extra={"model": held.name, "why": error.reason})
    part.discard()
    wanted = Model(name=name)
    return _fetch(download_model, part, wanted, reader, timeout_s, on_progress, on_header)


def receive(
    responses: Iterable[DownloadModelResponse], path: Path, on_progress: OnProgress | None = None
) -> Downloaded:
    """Writes one whole stream (header, then chunks from 0) to `path`, verified and renamed."""
    part = PartFile(path)
    part.discard()
    return _append(iter(responses), part, None, on_progress)


def _moving(name: str) -> bool:
    return not name.rpartition("/")[2].isdecimal()


def _fetch(
    download_model: DownloadModel,
    part: PartFile,
    wanted: Model,
    reader: str,
    timeout_s: float,
    on_progress: OnProgress | None,
    on_header: OnHeader | None,
) -> Downloaded:
    request = DownloadModelRequest(name=wanted.name, offset=part.size(), reader=reader)
    held = wanted if wanted.sha256 else None
    try:
        stream: Any = download_model(request, timeout=timeout_s)
        return _append(iter(stream), part, held, on_progress, on_header)
    except (NotFound, Refused, OffsetMismatch, DigestMismatch):
        part.discard()
        raise


def _append(
    responses: Iterator[DownloadModelResponse],
    part: PartFile,
    held: Model | None,
    on_progress: OnProgress | None,
    on_header: OnHeader | None = None,
) -> Downloaded:
    opening = next(responses, None)
    if opening is None or opening.WhichOneof("part") != "header":
        raise CoordinatorUnreachable("the download did not begin with a header")
    header = opening.header
    if on_header is not None:
        on_header(header)
    if held is not None and (held.version, held.sha256) != (header.version, header.sha256):
        raise DigestMismatch(f"version {header.version} is not the one whose part is held")
    part.remember(header)
    digest = hashlib.sha256()
    with part.open(digest) as file:
        offset = file.tell()
        for response in responses:
            try:
                data = check_chunk(response.chunk, offset)
            except (ChecksumMismatch, MalformedUpdate) as error:
                # What came before is good and kept: the next call goes on from there.
                raise CoordinatorUnreachable(f"the download broke: {error}") from error
            offset += len(data)
            if offset > header.size_bytes:
                raise OffsetMismatch("more bytes than promised", committed_bytes=header.size_bytes)
            file.write(data)
            digest.update(data)
            if on_progress is not None:
                on_progress(offset, header.size_bytes)
    if offset < header.size_bytes:
        raise CoordinatorUnreachable(f"the download ended at byte {offset} of {header.size_bytes}")
    if digest.hexdigest() != header.sha256:
        raise DigestMismatch(f"the bytes of version {header.version} are not the promised ones")
    return Downloaded(header.version, header.epoch, part.complete(), header.sha256)
