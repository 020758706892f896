"""Uploads and downloads through a real server that stops and starts again in their middle."""

import hashlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from letheon.errors import CoordinatorUnreachable, OffsetMismatch, SiteFenced
from letheon.servicekit import transfer
from letheon.servicekit.channel import open_channel
from letheon.servicekit.server import Server
from letheon.servicekit.transfer import CHUNK_BYTES, check_chunk, read_chunks
from letheon.v1 import models_pb2, models_pb2_grpc, training_pb2, training_pb2_grpc

SIZE = 24 * CHUNK_BYTES + 5
PAYLOAD = hashlib.shake_256(b"payload").digest(SIZE)
SEGMENT = 10 * CHUNK_BYTES


class Training(training_pb2_grpc.TrainingServicer):
    """Keeps one upload; `halt` is called at each chunk and may stop the server or refuse."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.streams: list[int] = []
        self.refusal: Exception | None = None
        self.reached = threading.Event()
        self.pause_at: int | None = None

    def QueryUpload(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return training_pb2.QueryUploadResponse(committed_bytes=len(self.held))

    def PushDelta(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        header = next(request_iterator).header
        self.streams.append(header.offset)
        if header.offset != len(self.held):
            raise OffsetMismatch("resume", committed_bytes=len(self.held))
        for request in request_iterator:
            if self.refusal is not None:
                raise self.refusal
            check_chunk(request.chunk, len(self.held))
            self.held += request.chunk.data
            if self.pause_at is not None and len(self.held) >= self.pause_at:
                self.pause_at = None
                ended = threading.Event()
                context.add_callback(ended.set)
                self.reached.set()
                ended.wait(20)
        if len(self.held) < header.size_bytes:
            return training_pb2.PushDeltaResponse(committed_bytes=len(self.held))
        receipt = training_pb2.Receipt(
            update_id=header.update_id, sha256=hashlib.sha256(self.held).hexdigest()
        )
        return training_pb2.PushDeltaResponse(receipt=receipt)


class Models(models_pb2_grpc.ModelsServicer):
    """Serves one version; stops after `chunks` of them once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets: list[int] = []
        self.break_after: int | None = None

    def DownloadModel(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.offsets.append(request.offset)
        sha256 = hashlib.sha256(PAYLOAD).hexdigest()
        header = models_pb2.Model(name="models/3", version=3, size_bytes=SIZE, sha256=sha256)
        yield models_pb2.DownloadModelResponse(header=header)
        with self.path.open("rb") as file:
            for count, chunk in enumerate(read_chunks(file, request.offset, SIZE)):
                if count == self.break_after:
                    self.break_after = None
                    context.abort(grpc.StatusCode.UNAVAILABLE, "max connection age")
                yield models_pb2.DownloadModelResponse(chunk=chunk)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "payload"
    path.write_bytes(PAYLOAD)
    return path


@pytest.fixture
def training() -> Training:
    return Training()


def a_server(training: Training, listen: str = "127.0.0.1:0") -> Server:
    register = training_pb2_grpc.add_TrainingServicer_to_server
    return Server([(register, training)], listen=listen)


def push(channel: grpc.Channel, payload: Path) -> training_pb2.Receipt:
    stub: Any = training_pb2_grpc.TrainingStub(channel)
    header = training_pb2.UploadHeader(
        update_id="u1", size_bytes=SIZE, sha256=hashlib.sha256(PAYLOAD).digest()
    )
    return transfer.push(
        stub.PushDelta, header, payload, query=stub.QueryUpload, segment_bytes=SEGMENT
    )


def test_an_upload_survives_the_end_and_the_restart_of_its_server(
    training: Training, payload: Path
) -> None:
    training.pause_at = 12 * CHUNK_BYTES
    server = a_server(training)
    address = server.start()
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            push(channel, payload)
        except CoordinatorUnreachable as error:
            failures.append(error)

    with open_channel(address) as channel:
        uploading = threading.Thread(target=attempt)
        uploading.start()
        assert training.reached.wait(20)
        server.stop(0)
        uploading.join(20)
        assert len(failures) == 1
        again = a_server(training, address)
        again.start()
        receipt = _when_reconnected(channel, payload)
        again.stop(0)
    assert receipt.sha256 == hashlib.sha256(PAYLOAD).hexdigest()
    assert training.streams[:3] == [0, SEGMENT, 12 * CHUNK_BYTES]


def _when_reconnected(channel: grpc.Channel, payload: Path) -> training_pb2.Receipt:
    pause = threading.Event()
    for _ in range(600):
        try:
            return push(channel, payload)
        except CoordinatorUnreachable:
            pause.wait(0.1)  # the channel looks for its server again after a while of its own
    raise AssertionError("never connected again")


def test_a_refusal_in_mid_stream_arrives_as_itself_and_leaves_no_noise(
    training: Training, payload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training.refusal = SiteFenced("fenced", erasure="erasures/e1")
    server = a_server(training)
    with (
        caplog.at_level(logging.WARNING),
        open_channel(server.start()) as channel,
        pytest.raises(SiteFenced) as caught,
    ):
        push(channel, payload)
    server.stop(5)
    assert caught.value.facts["erasure"] == "erasures/e1"
    assert caplog.records == []


@pytest.fixture
def models(payload: Path) -> Iterator[tuple[Models, Any]]:
    servicer = Models(payload)
    server = Server([(models_pb2_grpc.add_ModelsServicer_to_server, servicer)])
    with open_channel(server.start()) as channel:
        yield servicer, models_pb2_grpc.ModelsStub(channel)
    server.stop(0)


def test_a_download_that_breaks_goes_on_where_it_was(
    models: tuple[Models, Any], tmp_path: Path
) -> None:
    servicer, stub = models
    servicer.break_after = 7
    target = tmp_path / "model"
    with pytest.raises(CoordinatorUnreachable, match="max connection age"):
        transfer.download(stub.DownloadModel, target, name="models/head")
    done = transfer.download(stub.DownloadModel, target, name="models/head")
    assert done.path.read_bytes() == PAYLOAD
    assert servicer.offsets == [0, 7 * CHUNK_BYTES]
