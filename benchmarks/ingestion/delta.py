"""A delta from its first byte to its durable receipt, and the stages it went through there."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ingestion import reference
from benchmarks.ingestion.figures import Figure, interleaved, medians
from benchmarks.ingestion.payloads import Payload
from benchmarks.ingestion.senders import Senders
from benchmarks.ingestion.world import Bench

STAGES = ("receive", "validate", "persist", "merge")
AT_LEAST = 0.6  # of the reference pipeline, for the payload the promise names
PROMISED_MB = 100
_STAGE = 'letheon_update_stage_seconds_sum{stage="%s"}'


def measure(
    bench: Bench, senders: Senders, *, agents: int, megabytes: int, repeats: int
) -> Iterator[Figure]:
    """So many agents at once, in turn with the reference server; then the stages of the pushes."""
    case = f"{megabytes} MB, {len(bench.layout.tensors)} tensors, {agents} at once"
    is_plain = bench.identities is None
    case += "" if is_plain else ", mTLS"
    turns: dict[int, list[Payload]] = {}

    def payloads(turn: int) -> list[Payload]:
        if turn not in turns:
            turns.clear()
            turns[turn] = [bench.payloads.next() for _ in range(agents)]
        return turns[turn]

    def ours(turn: int) -> float:
        pairs = zip(payloads(turn), bench.sites, strict=False)
        return senders.seconds([bench.delta(payload, site) for payload, site in pairs])

    def raw(turn: int, method: str) -> float:
        return senders.seconds([bench.raw(payload, method) for payload in payloads(turn)])

    before = bench.metrics()
    found = medians(
        interleaved(
            {
                "delta": ours,
                "pipeline": lambda turn: raw(turn, reference.PUSH),
                "stream": lambda turn: raw(turn, reference.DROP),
                "hash": lambda turn: agents * seconds_of_hash(payloads(turn)[0]),
                "disk": lambda turn: seconds_of_disk(payloads(turn), bench.directory),
            },
            repeats=repeats,
        )
    )
    after = bench.metrics()
    value = found["delta"]
    promised = AT_LEAST if is_plain and (megabytes, agents) == (PROMISED_MB, 1) else None
    pipeline, stream = found["pipeline"], found["stream"]
    name, slowest = max(
        ("the bare stream", stream),
        ("SHA-256", found["hash"]),
        ("disk", found["disk"]),
        key=lambda stage: stage[1],
    )
    what = "delta to durable receipt"
    yield Figure(what, case, value, "s", "reference pipeline", pipeline, promised)
    yield Figure(what, case, value, "s", "bare stream", stream)
    yield Figure(what, case, value, "s", f"slowest stage alone: {name}", slowest)
    pushes = agents * (repeats + 1)  # with the warm-up
    for stage in STAGES:
        seconds = after[_STAGE % stage] - before.get(_STAGE % stage, 0.0)
        yield Figure(f"stage {stage}", case, seconds / pushes, "s", "the whole delta", value)


def seconds_of_hash(payload: Payload) -> float:
    """SHA-256 of the bytes in memory."""
    data = payload.path.read_bytes()
    began = time.monotonic()
    hashlib.sha256(data).digest()
    return time.monotonic() - began


def seconds_of_disk(payloads: list[Payload], directory: Path) -> float:
    """Writing the bytes one file after another, and making each durable."""
    contents = [payload.path.read_bytes() for payload in payloads]
    path = directory / "disk-alone"
    seconds = 0.0
    for data in contents:
        view = memoryview(data)
        began = time.monotonic()
        with path.open("wb", buffering=0) as file:
            for offset in range(0, len(view), reference.MESSAGE_BYTES):
                file.write(view[offset : offset + reference.MESSAGE_BYTES])
            os.fsync(file.fileno())
        seconds += time.monotonic() - began
        path.unlink()
    return seconds
