"""Updates that are to hurt the model, or the process that reads them."""

from __future__ import annotations

import pickle
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from google.protobuf.message import DecodeError

from letheon.errors import LetheonError, MalformedRequest, MalformedUpdate, RateLimited
from letheon.federation.encoding import encode
from letheon.v1 import training_pb2, updates_pb2
from letheon.v1.updates_pb2_grpc import UpdatesStub

from .attacks import Outcome, attack, detected, every, refused, stopped, succeeded
from .calls import version_of
from .insider import Insider, chunk
from .world import LAYOUT, World

FAMILY = "poisoned updates"
_MIB = 1 << 20


def _held_back(world: World, site: str, delta: np.ndarray, **more: Any) -> Outcome:
    """Detected if the update is quarantined and the head stays as it is."""
    before = version_of(world)
    receipt = world.insiders[site].push(delta.astype(np.float32), **more)
    stub = UpdatesStub(world.operator())
    waiting = stub.ListQuarantined(updates_pb2.ListQuarantinedRequest()).updates
    found = {one.update_id: one for one in waiting}.get(receipt.update_id)
    if found is None or version_of(world) != before:
        return succeeded(f"it was merged, as version {receipt.version}")
    stub.RejectUpdate(updates_pb2.RejectUpdateRequest(update_id=found.update_id, reason="poison"))
    return detected(f"quarantined, not merged: {found.finding}")


@attack(FAMILY, "a delta scaled by 50", expected="quarantined", quick=True)
def scaled(world: World) -> Outcome:
    return _held_back(world, "north", world.insiders["north"].honest(40) * 50)


@attack(FAMILY, "a delta with its sign flipped", expected="quarantined", quick=True)
def flipped(world: World) -> Outcome:
    return _held_back(world, "south", -world.insiders["south"].honest(41))


@attack(FAMILY, "a delta that adds up to another site's removal",
        expected="quarantined: it points away from what the site sent")  # fmt: skip
def negated_neighbour(world: World) -> Outcome:
    east = world.insiders["east"].honest(42)
    return _held_back(world, "west", world.insiders["west"].honest(42) - 4 * east)


@attack(FAMILY, "NaN and infinities", expected="MALFORMED_UPDATE, rule finite", quick=True)
def not_finite(world: World) -> Outcome:
    found = {}
    for name, value in {"NaN": np.nan, "infinity": np.inf}.items():
        delta = world.insiders["north"].honest(43)
        delta[17] = value
        push = lambda delta=delta: world.insiders["north"].push(delta)  # noqa: E731
        found[name] = refused(push, MalformedUpdate)
    return every(found, "both refused; the tensor is named")


@attack(FAMILY, "another layout: a tensor more, fewer values, another type",
        expected="MALFORMED_UPDATE", quick=True)  # fmt: skip
def wrong_layout(world: World) -> Outcome:
    north = world.insiders["north"]
    own = [(t.name, t.shape) for t in LAYOUT.tensors]
    cases: dict[str, dict[str, Any]] = {
        "a tensor more": {"layout": [*own, ("backdoor", (1,))]},
        "fewer values": {"layout": [own[0]]},
        "another shape": {"layout": [(own[0][0], (1,)), own[1]]},
        "a negative shape": {"layout": [(own[0][0], (-1,)), own[1]]},
        "another encoding": {"encoding": "int8"},
    }
    return every(
        {
            name: refused(
                lambda change=change: north.push(north.honest(44), **change),
                MalformedUpdate,
                MalformedRequest,
            )
            for name, change in cases.items()
        },
        "each refused from the header",
    )


@attack(FAMILY, "an update that says it has 1 TB, and one message of 8 MiB",
        expected="refused before bytes are kept", quick=True)  # fmt: skip
def oversized(world: World) -> Outcome:
    north = world.insiders["north"]
    payload = encode(north.honest(45), world.plan.encoding)
    before = _staged(world)
    long = refused(lambda: north.push(north.honest(45), size_bytes=1 << 40), MalformedUpdate)

    def big() -> None:
        header = training_pb2.PushDeltaRequest(header=north.header(payload))
        north.training.PushDelta(iter([header, chunk(b"\0" * (8 * _MIB), 0)]))

    large = refused(big, MalformedRequest, MalformedUpdate)
    if _staged(world) > before + 8 * _MIB:
        return succeeded("the bytes are kept")
    return every({"1 TB": long, "8 MiB": large}, "both refused, nothing of them is kept")


@attack(FAMILY, "a bomb: 12 kB that unpack to 370 MiB", expected="MALFORMED_UPDATE, without the "
        "memory for it", quick=True)  # fmt: skip
def bomb(world: World) -> Outcome:
    north = world.insiders["north"]
    # As many blocks as the layout allows bytes: 370 MiB in 12 kB.
    sizes = {"told": _bomb(370), "not told": _bomb(370, tells=False)}
    process = psutil.Process(world.child("coordinator").pid)
    before = process.memory_info().rss
    found = {}
    for name, payload in sizes.items():
        header = north.header(payload, encoding="float32+zstd")
        found[name] = refused(
            lambda header=header, payload=payload: north.send(header, payload),
            MalformedUpdate,
        )
    grown = process.memory_info().rss - before
    if grown > 64 * _MIB:
        return succeeded(f"the coordinator grew by {grown / _MIB:.0f} MiB")
    return every(found, f"refused; the coordinator grew by {max(0, grown) / _MIB:.0f} MiB")


def _bomb(mib: int, *, tells: bool = True) -> bytes:
    """A zstd frame of RLE blocks, four bytes for each 128 KiB of zeros; says its length or not."""
    blocks = mib * 8
    size = struct.pack("<Q", mib * _MIB) if tells else b""
    # Frame header: magic, descriptor (content size in 8 bytes, or none), window of 8 MiB.
    head = struct.pack("<IBB", 0xFD2FB528, 0xC0 if tells else 0x00, 13 << 3) + size
    body = b"".join(
        ((131072 << 3) | (1 << 1) | (number == blocks - 1)).to_bytes(3, "little") + b"\0"
        for number in range(blocks)
    )
    return head + body


class _Evil:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self._mark,)


@attack(FAMILY, "a pickle that runs a command, in the place of the tensors",
        expected="it is numbers to us: refused, or merged as numbers; the command is not run",
        quick=True)  # fmt: skip
def pickled(world: World) -> Outcome:
    mark = world.root / "was-here"
    north = world.insiders["north"]
    # \xff is NaN where the pickle ends.
    payload = pickle.dumps(_Evil(mark)).ljust(LAYOUT.size * 4, b"\xff")
    said = refused(lambda: north.send(north.header(payload), payload), MalformedUpdate)
    return succeeded("the command ran") if mark.exists() else said


@attack(FAMILY, "a thousand random payloads and headers, as fast as the rate allows",
        expected="refused or numbers; it serves")  # fmt: skip
def random_bytes(world: World) -> Outcome:
    rng, tiny = np.random.default_rng(7), world.insiders["tiny"]
    good = tiny.header(b"x")
    before, refusals = world.child("coordinator").pid, 0
    for _ in range(1000):
        payload = rng.bytes(int(rng.integers(1, LAYOUT.size * 4 + 8)))
        raw = bytearray(good.SerializeToString())
        raw[int(rng.integers(len(raw)))] = int(rng.integers(256))
        header = training_pb2.UploadHeader()
        try:
            header.ParseFromString(bytes(raw))
            _send_in_time(tiny, header, payload)
        except (LetheonError, DecodeError, ValueError):
            refusals += 1
    if world.child("coordinator").poll() is not None or world.child("coordinator").pid != before:
        return succeeded("the coordinator ended")
    return stopped(f"{refusals} of 1000 refused, the coordinator serves")


def _send_in_time(insider: Insider, header: training_pb2.UploadHeader, payload: bytes) -> None:
    while True:
        try:
            insider.send(header, payload)
        except RateLimited as error:
            time.sleep(error.retry_after_s)
        else:
            return


def _staged(world: World) -> int:
    return sum(path.stat().st_size for path in world.data.rglob("*") if path.is_file())
