"""Small deltas of many agents at once: what a receipt costs beside its bytes."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ingestion import reference
from benchmarks.ingestion.figures import Figure, interleaved, medians
from benchmarks.ingestion.payloads import Payload
from benchmarks.ingestion.senders import Senders
from benchmarks.ingestion.world import Bench

AGENTS = 16
WARM_UPS = 2
_COMMITS = 'letheon_update_stage_seconds_count{stage="persist"}'


def measure(bench: Bench, senders: Senders, *, megabytes: int, repeats: int) -> Iterator[Figure]:
    """Accepted deltas a second, beside files a second of the reference pipeline."""
    turns: dict[int, list[Payload]] = {}

    def payloads(turn: int) -> list[Payload]:
        if turn not in turns:
            turns.clear()
            turns[turn] = [bench.payloads.next() for _ in range(AGENTS)]
        return turns[turn]

    def ours(turn: int) -> float:
        pairs = zip(payloads(turn), bench.sites, strict=True)
        return AGENTS / senders.seconds([bench.delta(payload, site) for payload, site in pairs])

    def pipeline(turn: int) -> float:
        jobs = [bench.raw(payload, reference.PUSH) for payload in payloads(turn)]
        return AGENTS / senders.seconds(jobs)

    before = bench.metrics()
    found = medians(
        interleaved({"ours": ours, "pipeline": pipeline}, repeats=repeats, warm_ups=WARM_UPS)
    )
    commits = bench.metrics()[_COMMITS] - before.get(_COMMITS, 0.0)
    yield Figure(
        "deltas a second",
        f"{megabytes} MB, {AGENTS} at once",
        found["ours"],
        "1/s",
        "reference pipeline",
        found["pipeline"],
        more_is_better=True,
    )
    yield Figure(
        "commits for each delta",
        f"{megabytes} MB, {AGENTS} at once",
        commits / (AGENTS * (WARM_UPS + repeats)),
        "",
        "one each",
        1.0,
    )
