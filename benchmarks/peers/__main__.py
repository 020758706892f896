"""`make bench-peers`: one delta to Flower, NVFlare, APPFL and Letheon, in turn, in one run.

A figure is the median of the spans from the arrays at the client to new weights at the server;
the peers' own waiting is left out, and told beside it. Every peer's aggregate is compared with
numpy's: one that is wrong is not reported. Ends with 1 if a peer that was
run failed, or a promise of docs/performance.md was not kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.ingestion.figures import say
from benchmarks.ingestion.report import RESULTS, machine, write, write_page
from benchmarks.ingestion.senders import Senders
from benchmarks.ingestion.world import a_bench
from benchmarks.peers.results import Result, promises, rows, table
from benchmarks.peers.venvs import PEERS, ready
from letheon.cli.local.running import free_ports

HARNESS = Path(__file__).parent / "harness"
LIMIT_S = 900.0
SPANS = ("serialise", "upload", "visible", "aggregate")


def run_peer(
    key: str, python: Path, at: Path, *, megabytes: int, tensors: int, repeats: int
) -> Iterator[Result]:
    """Every variant of one peer. Raises RuntimeError if it fails or aggregates wrongly."""
    peer = PEERS[key]
    for variant, more in peer.variants:
        directory = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=at))
        (port,) = free_ports(1)
        command = [str(python), str(HARNESS / peer.harness), "--directory", str(directory)]
        command += ["--megabytes", str(megabytes), "--tensors", str(tensors)]
        # The first delta of a process warms it up.
        command += ["--repeats", str(repeats + 1), "--port", str(port), *more]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{peer.name} ({variant}) took more than {LIMIT_S:.0f} s") from None
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines or "correct" not in lines[-1]:
            words = done.stderr.strip().splitlines()
            raise RuntimeError(f"{peer.name} ({variant}) failed: {words[-1] if words else '?'}")
        if not lines[-1]["correct"]:
            raise RuntimeError(f"{peer.name} ({variant}) did not aggregate what was sent")
        measured = [line["seconds"] for line in lines[1:-1]]
        spans = {name: median(measured, name) for name in SPANS if name in measured[0]}
        yield Result(
            system=peer.name,
            version=lines[-1]["version"],
            variant=variant,
            megabytes=megabytes,
            tensors=tensors,
            repeats=repeats,
            without_waiting=sum(spans.values()) if spans else None,
            as_shipped=median(measured, "as_shipped") if "as_shipped" in measured[0] else None,
            spans=spans,
            durable="SQLite" in variant,
        )


def median(measured: Sequence[dict[str, float]], name: str) -> float:
    """Of one span."""
    return statistics.median(seconds[name] for seconds in measured)


def run_letheon(at: Path, *, megabytes: int, tensors: int, repeats: int) -> Result:
    """From the call to the durable, merged receipt; an agent that has a delta never waits."""
    directory = Path(tempfile.mkdtemp(prefix="letheon-", dir=at))
    try:
        with (
            Senders(1) as senders,
            a_bench(directory, megabytes=megabytes, tensors=tensors, sites=1) as bench,
        ):
            found = [
                senders.seconds([bench.delta(bench.payloads.next(), bench.sites[0])])
                for _ in range(repeats + 1)
            ][1:]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    seconds = statistics.median(found)
    return Result(
        "Letheon", "this commit", "", megabytes, tensors, repeats, seconds, seconds, {}, True
    )


def usual_repeats(megabytes: int) -> int:
    """Fewer of what takes longer."""
    return 20 if megabytes <= 1 else 10 if megabytes <= 25 else 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 MB in 8 tensors, 2 repeats")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--sizes", type=int, nargs="+", metavar="MB")
    parser.add_argument("--repeats", type=int, help="of each variant; default: 20, 10 or 5 by size")
    parser.add_argument("--at", type=Path, default=Path("out"), help="a folder on the disk to use")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", action="store_true", help="put the table into docs as well")
    options = parser.parse_args()
    sizes = options.sizes or ([1] if options.quick else [1, 25, 100])
    layouts = (8,) if options.quick else (8, 160)
    options.at.mkdir(parents=True, exist_ok=True)
    out = options.out or (options.at if options.quick else RESULTS) / "peers.json"
    about, failed = machine(), []
    results: list[Result] = []
    pythons = {key: ready(key, options.at / "peers") for key in options.peers}
    for megabytes in sizes:
        repeats = options.repeats or (2 if options.quick else usual_repeats(megabytes))
        for tensors in sorted({n for k in pythons for n in PEERS[k].layouts} & {1, *layouts}):
            extent = {"megabytes": megabytes, "tensors": tensors, "repeats": repeats}
            results.append(run_letheon(options.at.absolute(), **extent))
            for key, python in pythons.items():
                if python is None or tensors not in PEERS[key].layouts:
                    continue
                say(f"{PEERS[key].name}, {megabytes} MB, {tensors} tensors ...")
                try:
                    results += run_peer(key, python, options.at.absolute(), **extent)
                except RuntimeError as error:
                    failed.append(str(error))
                    say(str(error))
                # After each: a run takes long, and may be ended before its end.
                more = {"failed": failed, "promises": [asdict(p) for p in promises(results)]}
                write(out, [asdict(result) for result in results], machine=about, **more)
    say(table(results))
    found = promises(results)
    for promise in found:
        say(promise.sentence)
    say(f"written: {out}")
    if options.page:
        write_page("peers", json.loads(out.read_text()), rows=rows)
    if failed or not all(promise.is_kept for promise in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
