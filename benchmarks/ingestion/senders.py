"""The other side: processes that push and fetch, as agents on other machines would.

Every function here runs in a process of its own pool and answers when it began and ended, on the
monotonic clock of the machine, which all processes share.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import grpc

from benchmarks.ingestion import reference
from benchmarks.ingestion.payloads import Payload
from letheon.servicekit.allocator import keep_transfer_buffers
from letheon.servicekit.channel import open_channel
from letheon.servicekit.identity_folder import files_in
from letheon.servicekit.route import Route
from letheon.servicekit.transfer import download, push
from letheon.v1 import models_pb2_grpc, training_pb2, training_pb2_grpc

Span = tuple[float, float]  # began, ended [s]


@dataclass(frozen=True)
class Delta:
    """A delta on its way to a coordinator."""

    address: str
    site: str
    payload: Payload
    layout: tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes
    identity: Path | None = None  # a folder of certificates: mutual TLS


@dataclass(frozen=True)
class Raw:
    """The same bytes on their way to the reference server."""

    address: str
    method: str
    payload: Payload
    identity: Path | None = None


@dataclass(frozen=True)
class Fetch:
    """A file on its way to a reader: of a coordinator, or `source` of the reference server."""

    address: str
    target: Path
    source: Path | None = None


Job = Delta | Raw | Fetch


def perform(job: Job) -> Span:
    """One job. Raises RuntimeError if what arrived is not what was sent."""
    match job:
        case Delta():
            return _push(job)
        case Raw():
            return _push_raw(job)
        case Fetch():
            return _fetch(job) if job.source is None else _fetch_raw(job, job.source)


def perform_side_by_side(jobs: Sequence[Job]) -> list[Span]:
    """Several jobs in threads of one process."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        return list(threads.map(perform, jobs))


class Senders:
    """Processes that are kept, so that none of their start is measured."""

    def __init__(self, processes: int) -> None:
        self._count = processes
        context = multiprocessing.get_context("spawn")
        # As agents do; what the reference sends is spared the same page faults.
        self._pool = ProcessPoolExecutor(
            processes, mp_context=context, initializer=keep_transfer_buffers
        )

    def seconds(self, jobs: Sequence[Job]) -> float:
        """From the beginning of the first to the end of the last, all at once."""
        shares = [jobs[first :: self._count] for first in range(min(self._count, len(jobs)))]
        spans = [s for found in self._pool.map(perform_side_by_side, shares) for s in found]
        return max(end for _, end in spans) - min(begin for begin, _ in spans)

    def start(self, job: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        """A future of something else that a sender does."""
        return self._pool.submit(job, *arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def header(job: Delta) -> training_pb2.UploadHeader:
    """What announces the delta. Its base is version 0, which every epoch-0 head accepts."""
    return training_pb2.UploadHeader(
        update_id=str(uuid.uuid4()),
        size_bytes=job.payload.size_bytes,
        sha256=job.payload.sha256,
        layout=[
            training_pb2.TensorSpec(name=name, shape=shape, dtype="float32")
            for name, shape in job.layout
        ],
        delta=training_pb2.DeltaPurpose(
            site=f"sites/{job.site}", task="tasks/train-0-0-0", record_count=100, train_loss=0.5
        ),
    )


def _push(job: Delta) -> Span:
    stub = training_pb2_grpc.TrainingStub(_channel(job.address, job.identity))
    announced = header(job)
    began = time.monotonic()
    receipt = push(stub.PushDelta, announced, job.payload.path, query=stub.QueryUpload)
    ended = time.monotonic()
    if receipt.sha256 != job.payload.sha256.hex():
        raise RuntimeError("the receipt is of other bytes")
    return began, ended


def _push_raw(job: Raw) -> Span:
    call = _raw_channel(job.address, job.identity).stream_unary(job.method)
    began = time.monotonic()
    answer = call(_messages(job.payload.path), timeout=600)
    ended = time.monotonic()
    due = {
        reference.PUSH: job.payload.sha256,
        reference.DROP: str(job.payload.size_bytes).encode(),
    }
    if answer != due[job.method]:
        raise RuntimeError("the reference server got other bytes")
    return began, ended


def _fetch(job: Fetch) -> Span:
    stub = models_pb2_grpc.ModelsStub(_channel(job.address))
    job.target.unlink(missing_ok=True)
    began = time.monotonic()
    download(stub.DownloadModel, job.target, name="models/head")
    return began, time.monotonic()


def _fetch_raw(job: Fetch, source: Path) -> Span:
    call = _raw_channel(job.address).unary_stream(reference.FETCH)
    hasher = hashlib.sha256()
    began = time.monotonic()
    with job.target.open("wb", buffering=0) as file:
        for block in call(str(source).encode(), timeout=600):
            hasher.update(block)
            file.write(block)
        os.fsync(file.fileno())
    return began, time.monotonic()


def _messages(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(reference.MESSAGE_BYTES):
            yield block


@cache
def _channel(address: str, identity: Path | None = None) -> grpc.Channel:
    route = None if identity is None else Route(tls=files_in(identity))
    return open_channel(address, route=route)


@cache
def _raw_channel(address: str, identity: Path | None = None) -> grpc.Channel:
    if identity is None:
        return grpc.insecure_channel(address, options=reference.OPTIONS)
    credentials = grpc.ssl_channel_credentials(*reference.read_identity(identity))
    return grpc.secure_channel(address, credentials, options=reference.OPTIONS)
