"""How long a site waits for the answer to its poll while others upload."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from benchmarks.ingestion.figures import Figure, percentile
from benchmarks.ingestion.senders import Senders
from benchmarks.ingestion.world import Bench
from letheon.servicekit.channel import open_channel
from letheon.v1 import training_pb2, training_pb2_grpc

UPLOADS = 4
P99_S = 0.05  # promised


def measure(
    bench: Bench, senders: Senders, *, megabytes: int, polls: int, rounds: int
) -> Iterator[Figure]:
    """Polls alone, then during `rounds` of four uploads, one right after the other."""
    with open_channel(bench.address) as channel:
        stub = training_pb2_grpc.TrainingStub(channel)
        site = bench.sites[-1]
        alone = [poll(stub, site) for _ in range(polls)]
        ending = threading.Event()
        during: list[float] = []
        poller = threading.Thread(target=keep_polling, args=(stub, site, ending, during))
        poller.start()
        try:
            for _ in range(rounds):
                jobs = [bench.delta(bench.payloads.next(), s) for s in bench.sites[:UPLOADS]]
                senders.seconds(jobs)
        finally:
            ending.set()
            poller.join()
    case = f"{UPLOADS} uploads of {megabytes} MB"
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        yield Figure(
            f"poll for a task, {name}",
            f"{case}, {len(during)} polls",
            percentile(during, share),
            "s",
            f"alone, {name}",
            percentile(alone, share),
        )
    yield Figure(
        "poll for a task, p99", case, percentile(during, 0.99), "s", "50 ms", P99_S, at_least=1.0
    )


def keep_polling(
    stub: training_pb2_grpc.TrainingStub, site: str, ending: threading.Event, found: list[float]
) -> None:
    """Adds the seconds of polls until told to end; at least one."""
    found.append(poll(stub, site))
    while not ending.wait(0.005):
        found.append(poll(stub, site))


def poll(stub: training_pb2_grpc.TrainingStub, site: str) -> float:
    """Seconds of one."""
    began = time.monotonic()
    stub.NextTask(training_pb2.NextTaskRequest(site=f"sites/{site}"))
    return time.monotonic() - began
