"""Cost of a delta, memory, disk and recovery, after few deltas and after many."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ingestion.figures import Figure, say
from benchmarks.ingestion.world import await_file, start_coordinator
from benchmarks.scale.ledgers import Grown
from letheon.cli.local.running import free_ports

MOST_TIMES = 1.1  # the cost of a delta, compared with the first hundred of five sites
WINDOW = 50  # deltas
BASE_SITES, BASE_DELTAS = 5, 10


def measure(
    directory: Path, *, deltas: tuple[int, ...], sites: tuple[int, ...], windows: int
) -> Iterator[Figure]:
    """Every case beside a young coordinator of five sites: their windows of deltas take turns."""
    cases = [(count, BASE_SITES) for count in deltas[:-1]]
    cases += [(deltas[-1], number) for number in sites]
    base: dict[str, float] | None = None
    for count, number in cases:
        grown = Grown(directory / f"{count}-{number}", number)
        grown.push(count)
        say(f"{count} deltas of {number} sites are in")
        clock, processor = [], []
        for window in range(windows):
            young = Grown(directory / f"young-{count}-{number}-{window}", BASE_SITES)
            # The one first, then the other: whatever else the machine does meets both.
            if window % 2:
                there, here = grown.push(WINDOW), young.push(WINDOW)
            else:
                here, there = young.push(WINDOW), grown.push(WINDOW)
            young.close()
            clock.append((there[0], here[0]))
            processor.append((there[1], here[1]))
        case = f"after {count} deltas, {number} sites"
        promised = 1 / MOST_TIMES if (count, number) == (deltas[-1], sites[-1]) else None
        for what, found in (("clock", clock), ("processor", processor)):
            yield Figure(
                f"cost of a delta, {what}",
                case,
                statistics.median(a for a, _ in found),
                "s",
                "the first 50 deltas, 5 sites",
                statistics.median(b for _, b in found),
                promised if what == "clock" else None,
            )
        database = grown.database_bytes() / grown.deltas
        derived = grown.derived_bytes()
        grown.close()
        restarted = {**restart(grown.directory), "database": database, "derived": derived / 1e6}
        base = base or restarted
        first = f"after {cases[0][0]} deltas, {cases[0][1]} sites"
        for what, unit, key in (
            ("memory after a restart", "MB", "memory"),
            ("kill -9 to serving", "s", "seconds"),
            ("database, for each delta", "B", "database"),
            ("checkpoints, contributions, models", "MB", "derived"),
        ):
            yield Figure(what, case, restarted[key], unit, first, base[key])


def restart(directory: Path) -> dict[str, float]:
    """The real process on that folder, killed once and started again: seconds, and its memory."""
    found: dict[str, float] = {}
    for _ in range(2):
        port, metrics_port = free_ports(2)
        began = time.monotonic()
        child = start_coordinator(directory, port, metrics_port, {})
        await_file(directory / "address", child)
        found["seconds"] = time.monotonic() - began
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        rss = next(line for line in lines if line.startswith("VmRSS"))
        found["memory"] = int(rss.split()[1]) * 1024 / 1e6
        if child.kill() != -signal.SIGKILL:
            raise SystemExit(f"the coordinator ended by itself: {child.log_tail()}")
    return found
