"""`python -m tests.fuzz`: each target under atheris for a while, and a table of what it did.

Exit code: 0 without a finding, 1 with one, 2 without atheris or for a target that is none.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # of `builders`

from .target import FINDINGS, NAMES, load

ROOT = Path(__file__).parents[2]
_INPUT_SECONDS = 60  # by the clock: a machine that others use takes its time
_MEGABYTES = 2048
_STATS = {
    "executions": r"stat::number_of_executed_units:\s+(\d+)",
    "per_second": r"stat::average_exec_per_sec:\s+(\d+)",
    "slowest_seconds": r"stat::slowest_unit_time_sec:\s+(\d+)",
    "peak_megabytes": r"stat::peak_rss_mb:\s+(\d+)",
}


@dataclass(frozen=True)
class Result:
    """What a run of one target did."""

    target: str
    seconds: int
    executions: int
    per_second: int
    edges: int
    corpus: int  # inputs that reached something new
    slowest_seconds: int
    peak_megabytes: int
    finding: str  # path of the input, or empty


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--from", dest="seed", type=int, default=0, help="of libFuzzer; 0: any")
    options = parser.parse_args()
    unknown = sorted(set(options.targets) - set(NAMES))
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(NAMES)}")
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write(
            "make fuzz needs atheris: pip install -c constraints.txt -e '.[fuzz]'. Without it "
            "`make test T=tests/fuzz` replays every seed and finding.\n"
        )
        return 2
    results = []
    print(f"{'target':14} {'seconds':>7} {'executions':>10} {'/s':>6} {'edges':>6}  finding")
    for name in options.targets or NAMES:
        found = _fuzz(name, options.seconds, options.out, options.seed)
        results.append(found)
        print(
            f"{found.target:14} {found.seconds:7} {found.executions:10,} {found.per_second:6,} "
            f"{found.edges:6,}  {found.finding or 'none'}",
            flush=True,
        )
        kept = options.out / "results.json"
        kept.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    return 1 if any(one.finding for one in results) else 0


def _fuzz(name: str, seconds: int, out: Path, seed: int) -> Result:
    corpus = out / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(load(name).seeds()):
        (corpus / f"seed-{number:04}").write_bytes(content)
    log = out / name / "log.txt"
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        environ = {**os.environ, "TMPDIR": folder, "MALLOC_ARENA_MAX": "2"}
        command = [
            *(sys.executable, "-m", "tests.fuzz.child", name),
            f"-max_total_time={seconds}",
            f"-timeout={_INPUT_SECONDS}",
            f"-rss_limit_mb={_MEGABYTES}",
            f"-artifact_prefix={out / name}/",
            "-print_final_stats=1",
            *([f"-seed={seed}"] if seed else []),
            str(corpus),
        ]
        with log.open("wb") as file:
            done = subprocess.run(
                command, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT, check=False
            )
    return _result(name, log.read_text(errors="replace"), done.returncode, corpus)


def _result(name: str, log: str, code: int, corpus: Path) -> Result:
    numbers = {key: _last(pattern, log) for key, pattern in _STATS.items()}
    seconds = _last(r"Done \d+ runs in (\d+) second", log)
    written = re.findall(r"Test unit written to (\S+)", log)
    finding = written[-1] if written else ""
    if finding:
        content = Path(finding).read_bytes()
        print(
            f"{name}: once it is understood, {FINDINGS / name}.txt takes the line\n{content.hex()}"
        )
    elif code != 0:
        finding = f"ended with {code}, see {corpus.parent / 'log.txt'}"
    return Result(
        target=name,
        seconds=seconds,
        edges=_last(r"cov: (\d+)", log),
        corpus=len(list(corpus.iterdir())),
        finding=finding,
        **numbers,
    )


def _last(pattern: str, log: str) -> int:
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
