"""The most memory the coordinator ever held, against what it promises to hold."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ingestion.figures import Figure
from benchmarks.ingestion.senders import Senders
from benchmarks.ingestion.world import Bench

MODELS_BESIDE_UPLOADS = 3
CONSTANT_BYTES = 200 * 10**6


def measure(bench: Bench, senders: Senders, *, agents: int, megabytes: int) -> Iterator[Figure]:
    """The high-water mark of the resident set, mapped files included, while so many push."""
    for _ in range(2):  # buffers that are kept are kept by then
        bench.forget_peak()
        jobs = [bench.delta(bench.payloads.next(), site) for site in bench.sites[:agents]]
        senders.seconds(jobs)
    allowed = (MODELS_BESIDE_UPLOADS + agents) * bench.layout.size * 4 + CONSTANT_BYTES
    yield Figure(
        "memory of the coordinator, at most",
        f"{megabytes} MB, {agents} at once",
        bench.memory()["VmHWM"] / 1e6,
        "MB",
        f"({MODELS_BESIDE_UPLOADS} + uploads) models + 200 MB",
        allowed / 1e6,
        at_least=1.0,
    )
