"""`make bench-scale`: what grows with deltas and sites, and how thousands of sites behave.

Costs are those of real coordinators with a small model; behaviour is that of the simulator's
virtual clock. Ends with 1 if a promise of docs/performance.md was not kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.ingestion.figures import say
from benchmarks.ingestion.report import (
    RESULTS,
    figure_rows,
    machine,
    table,
    table_rows,
    write,
    write_page,
)
from benchmarks.scale.behaviour import LARGEST_ERROR, Behaviour, Case, run
from benchmarks.scale.growth import measure

CASES = (Case(1_000, 10, 5), Case(10_000, 5, 5), Case(1_000, 10, 50))
QUICK_CASES = (Case(200, 6, 4),)


def simulate(cases: Sequence[Case], workers: str) -> list[Behaviour]:
    """Each case in a process of its own, `workers` at once, or as tasks of Ray."""
    if workers == "ray":
        return _on_ray(cases)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(int(workers), mp_context=context) as pool:
        return list(pool.map(run, cases))


def _on_ray(cases: Sequence[Case]) -> list[Behaviour]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise SystemExit("--workers ray needs the package ray: install letheon[ray]") from None
    ray.init(log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1)(run)
        found: list[Behaviour] = ray.get([remote.remote(case) for case in cases])
    finally:
        ray.shutdown()
    return found


def page_rows(document: dict[str, Any]) -> list[str]:
    """The table of costs, and one of the simulated sites."""
    names = list(document["behaviour"][0])
    cells = [[_number(found[name]) for name in names] for found in document["behaviour"]]
    columns = [name.replace("_", " ") for name in names]
    return [*figure_rows(document), "", *table_rows(columns, cells)]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="minutes")
    parser.add_argument("--workers", default="1", help="processes of the simulator, or ray")
    parser.add_argument("--at", type=Path, default=Path("out"), help="a folder on the disk to use")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", action="store_true", help="put the table into docs as well")
    options = parser.parse_args()
    if options.workers != "ray" and not options.workers.isdecimal():
        parser.error(f"--workers is a number or ray, not {options.workers!r}")
    options.at.mkdir(parents=True, exist_ok=True)
    about = machine()
    deltas, sites = ((10, 200), (5, 50)) if options.quick else ((10, 1_000, 10_000), (5, 50, 500))
    directory = Path(tempfile.mkdtemp(prefix="scale-", dir=options.at.absolute()))
    try:
        windows = 3 if options.quick else 9
        figures = [
            figure.document()
            for figure in measure(directory, deltas=deltas, sites=sites, windows=windows)
        ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    say(table(figures))
    behaviours = simulate(QUICK_CASES if options.quick else CASES, options.workers)
    for behaviour in behaviours:
        say(", ".join(f"{key} {value}" for key, value in behaviour.document().items()))
    out = options.out or (options.at if options.quick else RESULTS) / "scale.json"
    write(out, figures, machine=about, behaviour=[b.document() for b in behaviours])
    say(f"written: {out}")
    if options.page:
        write_page("scale", json.loads(out.read_text()), rows=page_rows)
    broken = [f"{f['what']} ({f['case']})" for f in figures if not f["kept"]]
    broken += [f"error of {b.sites} sites" for b in behaviours if b.largest_error > LARGEST_ERROR]
    if broken:
        raise SystemExit(f"not kept: {'; '.join(broken)}")


if __name__ == "__main__":
    main()
