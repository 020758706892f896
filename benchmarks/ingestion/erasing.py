"""An erasure: from its request to the fence, and the subtraction of a contribution."""

from __future__ import annotations

import sqlite3
import statistics
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ingestion.delta import seconds_of_disk, seconds_of_hash
from benchmarks.ingestion.figures import Figure
from benchmarks.ingestion.senders import Senders
from benchmarks.ingestion.world import Bench
from letheon.servicekit.channel import open_channel
from letheon.v1 import erasures_pb2, erasures_pb2_grpc

FENCE_S = 0.05  # beyond one commit
SUBTRACTION_S = 0.5  # of 100 MB
PROMISED_MB = 100
DELTAS = 3  # of each site


def measure(bench: Bench, senders: Senders, *, megabytes: int) -> Iterator[Figure]:
    """Every site but the last contributes and is erased, one after the other."""
    leaving = bench.sites[:-1]
    for _ in range(DELTAS):
        senders.seconds([bench.delta(bench.payloads.next(), site) for site in leaving])
    fences: list[float] = []
    removals: list[float] = []
    commits: list[float] = []
    parts: list[float] = []
    with open_channel(bench.address, deadline_s=120.0) as channel:
        erasures = erasures_pb2_grpc.ErasuresStub(channel)
        jobs = erasures_pb2_grpc.ErasureJobsStub(channel)
        for site in leaving:
            commits.append(seconds_of_a_commit(bench.directory / "commit.sqlite"))
            began = time.monotonic()
            erasure = erasures.RequestErasure(request(site))
            fences.append(time.monotonic() - began)
            claim = jobs.ClaimErasure(
                erasures_pb2.ClaimErasureRequest(name=erasure.name, holder="bench")
            )
            began = time.monotonic()
            jobs.RemoveContribution(
                erasures_pb2.RemoveContributionRequest(
                    name=erasure.name, fencing_token=claim.fencing_token
                )
            )
            removals.append(time.monotonic() - began)
            parts.append(seconds_of_parts(bench))
    commit = statistics.median(commits)
    yield Figure(
        "erasure, request to fenced",
        f"{len(leaving)} erasures",
        statistics.median(fences),
        "s",
        "one commit + 50 ms",
        commit + FENCE_S,
        at_least=1.0,
    )
    yield Figure(
        "subtraction of a contribution",
        f"{megabytes} MB, {DELTAS} deltas",
        statistics.median(removals),
        "s",
        "half a second",
        SUBTRACTION_S,
        at_least=1.0 if megabytes == PROMISED_MB else None,
    )
    yield Figure(
        "subtraction of a contribution",
        f"{megabytes} MB, {DELTAS} deltas",
        statistics.median(removals),
        "s",
        f"hashing {DELTAS + 2} vectors and writing one, in turn",
        statistics.median(parts),
    )


def seconds_of_parts(bench: Bench) -> float:
    """What a removal cannot do without, alone: its deltas, their sum and the new version hashed,

    and that version written. The version before is a file since the erasure before this one.
    """
    payload = bench.payloads.next()
    hashes = sum(seconds_of_hash(payload) for _ in range(DELTAS + 2))
    return hashes + seconds_of_disk([payload], bench.directory)


def request(site: str) -> erasures_pb2.RequestErasureRequest:
    """That a whole site leaves."""
    return erasures_pb2.RequestErasureRequest(
        request_id=str(uuid.uuid4()),
        site=f"sites/{site}",
        legal_basis="GDPR-17-1-b",
        requester="bench",
        method="removal",
    )


def seconds_of_a_commit(path: Path) -> float:
    """One row into a database with the coordinator's settings, durable."""
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE IF NOT EXISTS rows (text TEXT)")
        began = time.monotonic()
        database.execute("INSERT INTO rows VALUES ('x')")
        ended = time.monotonic()
    database.close()
    return ended - began
