"""Uploads: messages in any order and of any size through the real servicer and receiver.

Two coordinators without a server live in memory, one with encryption at rest. An input is a few
streams of up to three updates; after every stream the receiver must agree with itself.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import numpy as np
from builders import a_config, a_core, a_plan, a_site, a_vector, a_wire_layout
from google.protobuf.message import DecodeError

from coordinator.core import Core
from coordinator.domain.site import SiteState
from coordinator.rpc.training import TrainingServicer
from coordinator.training_wiring import training_services
from letheon.errors import Corrupt, DiskFull, LetheonError
from letheon.federation.encoding import encode
from letheon.servicekit.chunks import CHUNK_BYTES, parse_push
from letheon.v1 import training_pb2
from letheon.v1.models_pb2 import Chunk

from ..choices import Choices
from ..target import Target, promise
from ..workplace import workplace

_PLAN = a_plan()
_PAYLOADS = (
    *(encode(a_vector(seed, scale=0.001), _PLAN.encoding) for seed in range(3)),
    encode(np.full(_PLAN.parameters.size, np.inf, np.float32), _PLAN.encoding),
    encode(np.full(_PLAN.parameters.size, 1e30, np.float32), _PLAN.encoding),
    b"\xff" * 7,
    b"\0",
)
_SITES = ("north", "south", "fenced", "nobody", "../x", "")
_NUMBERS = (-1, 1, 7, 2**31, 2**63 - 1, -(2**63))
_MERGES_A_WORLD = 100
_names = itertools.count()


class Cut(grpc.RpcError):
    """The caller went away."""


@dataclass
class World:
    """A coordinator, and which updates it has taken."""

    sealed: bool
    folder: Path = field(init=False)
    core: Core = field(init=False)
    servicer: TrainingServicer = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        self.folder = workplace() / f"world-{next(_names)}"
        self.folder.mkdir()
        self._open()
        with self.core.store.write() as uow:
            for name in ("north", "south"):
                uow.sites.add(a_site(name))
            uow.sites.add(a_site("fenced", state=SiteState.FENCED))
            uow.commit()

    def _open(self) -> None:
        more: dict[str, Any] = {}
        if self.sealed:
            more["encryption"] = {"key_dir": self.folder / "keys"}
        self.core = a_core(self.folder, plan=_PLAN, config=more)
        config = a_config(self.folder, **more)
        services = training_services(self.core, config, answered=lambda: None)
        (found,) = (s.servicer for s in services if isinstance(s.servicer, TrainingServicer))
        self.servicer = found

    def close(self) -> None:
        """Restarts it once, to see that the head is what the ledger says, and removes it."""
        before = self.core.live.snapshot()
        self._close_core()
        self._open()
        after = self.core.live.snapshot()
        promise(before[0] == after[0], "a restart finds the same version")
        promise(before[1].tobytes() == after[1].tobytes(), "and the same head, bit for bit")
        self._close_core()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close_core(self) -> None:
        self.core.store.close()
        if self.core.ring is not None:
            self.core.ring.close()


_worlds: dict[bool, World] = {}


def run(data: bytes) -> bool:
    choices = Choices(data)
    sealed = choices.flag()
    world = _worlds.get(sealed)
    if world is None or world.taken >= _MERGES_A_WORLD:
        if world is not None:
            world.close()
        world = _worlds[sealed] = World(sealed)
    ids = [f"u{next(_names)}-{number}" for number in range(3)]
    taken = world.taken
    for _ in range(1 + choices.number(255) % 6):
        _stream(world, choices, ids)
    for update in ids:
        world.core.staging.discard(update)
    return world.taken > taken


def _stream(world: World, choices: Choices, ids: list[str]) -> None:
    update = choices.pick(ids)
    payload = _PAYLOADS[choices.number(255) % len(_PAYLOADS)]
    committed = world.core.staging.committed_bytes(update)
    header = _header(world, choices, update, payload, committed)
    version = world.core.live.position.version
    held = world.servicer.QueryUpload(_question(update), None)  # type: ignore[arg-type]
    answer = None
    try:
        messages = _messages(choices, header, payload)
        answer = world.servicer.PushDelta(messages, None)  # type: ignore[arg-type]
    except (Corrupt, DiskFull):
        raise
    except LetheonError:
        pass
    risen = world.core.live.position.version - version
    known = held.WhichOneof("outcome") == "receipt"
    if answer is not None and answer.WhichOneof("outcome") == "receipt":
        promise(header.sha256 == hashlib.sha256(payload).digest(), "only whole payloads are taken")
        promise(risen == (0 if known else 1), "an update takes effect once")
        promise(not known or answer.receipt == held.receipt, "and its receipt stays the same")
        world.taken += 1
    else:
        promise(risen == 0, "what was not acknowledged takes no effect")
    if header.update_id == update and not known:
        _agrees(world, update, answer)
    promise(not world.core.staging.is_open(update), "no stream holds an upload that ended")


def _agrees(world: World, update: str, answer: training_pb2.PushDeltaResponse | None) -> None:
    after = world.servicer.QueryUpload(_question(update), None)  # type: ignore[arg-type]
    if after.WhichOneof("outcome") == "receipt":
        return
    promise(0 <= after.committed_bytes <= max(map(len, _PAYLOADS)), "no more than was promised")
    if answer is not None:
        promise(answer.committed_bytes == after.committed_bytes, "the durable size, told twice")


def _question(update: str) -> training_pb2.QueryUploadRequest:
    return training_pb2.QueryUploadRequest(update_id=update, site="sites/north")


def _header(
    world: World, choices: Choices, update: str, payload: bytes, committed: int
) -> training_pb2.UploadHeader:
    position = world.core.live.position
    header = training_pb2.UploadHeader(
        update_id=update,
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).digest(),
        offset=committed if committed < len(payload) else 0,
        layout=a_wire_layout(_PLAN),
        delta=training_pb2.DeltaPurpose(
            site="sites/north",
            task=f"tasks/train-{position.epoch}-0-0",
            base_version=position.version,
            epoch=position.epoch,
            record_count=100,
            train_loss=0.5,
        ),
    )
    for _ in range(choices.number(255) % 3):
        _bend(header, choices)
    return header


def _bend(header: training_pb2.UploadHeader, choices: Choices) -> None:
    how = choices.number(255) % 14
    number = choices.pick(_NUMBERS)
    if how == 0:
        header.size_bytes = number
    elif how == 1:
        header.offset = number
    elif how == 2:
        header.sha256 = choices.some_bytes(40)
    elif how == 3:
        header.update_id = choices.pick(("", "../u", "a" * 65, "A", "u 1"))
    elif how == 4:
        header.delta.site = f"sites/{choices.pick(_SITES)}"
    elif how == 5:
        header.delta.task = choices.pick(("", "tasks/x", "tasks/train-9-0-0", "tasks/train-x"))
    elif how == 6:
        header.delta.base_version = number
    elif how == 7:
        header.delta.epoch = number
    elif how == 8:
        header.delta.record_count = number
    elif how == 9:
        header.delta.train_loss = choices.pick((float("nan"), float("inf"), -1.0, 1e308))
    elif how == 10:
        del header.layout[choices.number(255) % 4 :]
    elif how == 11:
        for tensor in header.layout[: choices.number(255) % 4]:
            tensor.dtype = choices.pick(("float16", "topk", "", "float32+zstd"))
    elif how == 12:
        header.delta.exclusion_counter = number
    else:
        _other_purpose(header, choices, number)


def _other_purpose(header: training_pb2.UploadHeader, choices: Choices, number: int) -> None:
    purpose = choices.number(255) % 4
    if purpose == 0:
        header.ClearField("delta")
    elif purpose == 1:
        header.answer.site, header.answer.task = "sites/north", "tasks/none"
    elif purpose == 2:
        header.patch.erasure, header.patch.fencing_token = "erasures/none", number
        header.patch.kind = training_pb2.PatchPurpose.PATCH
    else:
        header.signature, header.signature_key = choices.some_bytes(70), "0" * 16


def _messages(choices: Choices, header: training_pb2.UploadHeader, payload: bytes) -> Iterator[Any]:
    """A stream as it leaves the deserializer; nothing else comes before it was asked for."""
    written: list[bytes] = []
    if choices.number(255) < 250:
        written.append(training_pb2.PushDeltaRequest(header=header).SerializeToString())
    at = max(0, min(header.offset, len(payload)))
    for _ in range(1 + choices.number(255) % 5):
        message, at = _message(choices, header, payload, at)
        written.append(message)
    cut = choices.flag()
    return _parsed(written, cut=cut)


def _parsed(written: list[bytes], *, cut: bool) -> Iterator[Any]:
    for message in written:
        try:
            parsed = parse_push(message)
        except DecodeError:
            raise Cut from None  # gRPC ends the call
        yield parsed
    if cut:
        raise Cut


def _message(
    choices: Choices, header: training_pb2.UploadHeader, payload: bytes, at: int
) -> tuple[bytes, int]:
    how = choices.number(255) % 16
    size = choices.number(255) % (len(payload) + 1) if how in (1, 2, 3) else len(payload)
    data = payload[at : at + size]
    offset, crc = at, google_crc32c.value(data)
    if how == 8:
        data = choices.some_bytes(255)
        crc = google_crc32c.value(data)
    elif how == 9:
        offset = choices.pick(_NUMBERS)
    elif how == 10:
        crc ^= 1 + choices.number(255)
    elif how == 11:
        return training_pb2.PushDeltaRequest(header=header).SerializeToString(), at
    elif how == 12:
        return choices.some_bytes(60), at
    elif how == 13:
        return b"", at
    elif how == 14:
        data = data + bytes(choices.pick((1, CHUNK_BYTES, CHUNK_BYTES + 1)))
        crc = google_crc32c.value(data)
    chunk = training_pb2.PushDeltaRequest(chunk=Chunk(offset=offset, data=data, crc32c=crc))
    written = chunk.SerializeToString()
    if how == 15:
        changed = bytearray(written)
        changed[choices.number(255) % min(len(changed), 24)] = choices.number(255)
        written = bytes(changed)
    return written, at + len(data)


def _seeds() -> Iterator[bytes]:
    for sealed in (0, 255):
        yield bytes([sealed, 0])
        for payload in range(len(_PAYLOADS)):
            yield bytes([sealed, 1, 0, payload, 0, 0, 0, 0, 0, 0, payload])
        for how in range(14):
            for value in range(6):
                yield bytes([sealed, 0, 0, 0, 1, how, value, value])
        for how in range(16):
            yield bytes([sealed, 2, 0, 0, 0, 0, 1, how, 30, 0, 0, 0, 0])
            yield bytes([sealed, 2, 0, 0, 0, 0, 2, 1, 40, 1, 40, how, 2, 3, 255, 0, 0])


TARGET = Target(
    "uploads",
    "the servicer of PushDelta, the receiver and its files, plain and encrypted",
    run,
    _seeds,
    longest=512,
)
