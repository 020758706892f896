"""A model on its way to its readers, against a bare stream of the same file."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ingestion.figures import Figure, interleaved, medians
from benchmarks.ingestion.senders import Fetch, Senders
from benchmarks.ingestion.world import Bench


def measure(
    bench: Bench, senders: Senders, *, readers: int, megabytes: int, repeats: int
) -> Iterator[Figure]:
    """Every reader checks and syncs what it got; the version's file is written before the first."""
    folder = bench.directory / "fetched"
    folder.mkdir(exist_ok=True)
    payload = bench.payloads.next()

    def ours(_: int) -> float:
        jobs = [Fetch(bench.address, folder / f"ours-{i}") for i in range(readers)]
        return senders.seconds(jobs)

    def raw(_: int) -> float:
        return senders.seconds(
            [
                Fetch(bench.reference_address, folder / f"raw-{i}", payload.path)
                for i in range(readers)
            ]
        )

    found = medians(interleaved({"ours": ours, "raw": raw}, repeats=repeats))
    case = f"{megabytes} MB, {readers} at once"
    yield Figure("model download", case, found["ours"], "s", "bare stream", found["raw"])
