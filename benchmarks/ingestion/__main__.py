"""`make bench`: what taking a delta in costs, each figure beside a bound of the same run.

Real processes on loopback, SQLite, fixed seeds, one thread for arithmetic. Ends with 1 if a
promise of docs/performance.md was not kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ingestion import arithmetic, delta, erasing, fetching, memory, polling, small
from benchmarks.ingestion.figures import Figure, say
from benchmarks.ingestion.payloads import LAYOUTS
from benchmarks.ingestion.report import (
    RESULTS,
    ingestion_rows,
    line,
    machine,
    table,
    write,
    write_page,
)
from benchmarks.ingestion.senders import Senders
from benchmarks.ingestion.world import MUTUAL_TLS, PLAINTEXT, Bench, a_bench

PARTS = ("delta", "arithmetic", "small", "download", "memory", "polling", "erasure")


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    sizes_mb: tuple[int, ...] = (1, 25, 100, 500)
    layouts: tuple[int, ...] = LAYOUTS
    agents: tuple[int, ...] = (1, 4)
    transports: tuple[str, ...] = (PLAINTEXT, MUTUAL_TLS)
    large_mb: int = 100
    polls: int = 400

    def repeats(self, megabytes: int) -> int:
        """Fewer of what takes longer."""
        if self.large_mb < 100:
            return 3
        return 20 if megabytes <= 1 else 10 if megabytes <= 25 else 5 if megabytes <= 100 else 3


QUICK = Extent(sizes_mb=(1, 25), layouts=(8,), large_mb=25, polls=100)


def measurements(extent: Extent, at: Path) -> dict[str, Callable[[], Iterator[Figure]]]:
    """Every part by its name."""
    large = extent.large_mb

    @contextmanager
    def opened(
        megabytes: int,
        *,
        sites: int,
        processes: int,
        tensors: int = 8,
        transport: str = PLAINTEXT,
    ) -> Iterator[tuple[Bench, Senders]]:
        # On the disk of `at`, and gone at once: payloads of a run would fill it.
        directory = Path(tempfile.mkdtemp(prefix="bench-", dir=at))
        try:
            with (
                Senders(processes) as senders,
                a_bench(
                    directory,
                    megabytes=megabytes,
                    tensors=tensors,
                    sites=sites,
                    transport=transport,
                ) as bench,
            ):
                yield bench, senders
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def deltas() -> Iterator[Figure]:
        for megabytes, tensors, agents, transport in itertools.product(
            extent.sizes_mb, extent.layouts, extent.agents, extent.transports
        ):
            with opened(
                megabytes, sites=agents, processes=agents, tensors=tensors, transport=transport
            ) as own:
                yield from delta.measure(
                    *own, agents=agents, megabytes=megabytes, repeats=extent.repeats(megabytes)
                )

    def smalls() -> Iterator[Figure]:
        with opened(1, sites=small.AGENTS, processes=4) as own:
            yield from small.measure(*own, megabytes=1, repeats=extent.repeats(1))

    def downloads() -> Iterator[Figure]:
        with opened(large, sites=1, processes=4) as own:
            for readers in (1, 8):
                yield from fetching.measure(
                    *own, readers=readers, megabytes=large, repeats=extent.repeats(large)
                )

    def memories() -> Iterator[Figure]:
        for agents in extent.agents:
            with opened(large, sites=agents, processes=agents) as own:
                yield from memory.measure(*own, agents=agents, megabytes=large)

    def pollings() -> Iterator[Figure]:
        with opened(large, sites=polling.UPLOADS + 1, processes=polling.UPLOADS) as own:
            yield from polling.measure(*own, megabytes=large, polls=extent.polls, rounds=3)

    def erasures() -> Iterator[Figure]:
        with opened(large, sites=4, processes=2) as own:
            yield from erasing.measure(*own, megabytes=large)

    parts = (
        deltas,
        lambda: arithmetic.measure(megabytes=large, repeats=15),
        smalls,
        downloads,
        memories,
        pollings,
        erasures,
    )
    return dict(zip(PARTS, parts, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="minutes: small payloads, few repeats")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="MB", help="of the deltas")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--at", type=Path, default=Path("out"), help="a folder on the disk to use")
    parser.add_argument("--out", type=Path, help="default: results/ingestion.json; --quick: out/")
    parser.add_argument("--page", action="store_true", help="put the table into docs as well")
    options = parser.parse_args()
    extent = QUICK if options.quick else Extent()
    if options.sizes:
        extent = Extent(tuple(options.sizes), extent.layouts, large_mb=extent.large_mb)
    options.at.mkdir(parents=True, exist_ok=True)
    about = machine()
    out = options.out or (options.at if options.quick else RESULTS) / "ingestion.json"
    figures: list[dict[str, Any]] = []
    for name, measure in measurements(extent, options.at.absolute()).items():
        if name not in options.parts:
            continue
        say(f"{name} ...")
        for figure in measure():
            figures.append(figure.document())
            say(f"  {line(figures[-1])}")
        # After each part: whoever ends a long run keeps what it measured.
        write(out, figures, machine=about, extent=vars(extent))
    say(table(figures))
    say(f"written: {out}")
    if options.page:
        write_page("ingestion", json.loads(out.read_text()), rows=ingestion_rows)
    broken = [f"{f['what']} ({f['case']})" for f in figures if not f["kept"]]
    if broken:
        raise SystemExit(f"not kept: {'; '.join(broken)}")


if __name__ == "__main__":
    main()
