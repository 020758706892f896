"""What every harness sends and how it is timed. Needs numpy alone: peers have no Letheon.

A harness prints one JSON object a line: `{"repeat": n, "seconds": {...}}` for each delta, at the
end `{"version": ..., "correct": true or false}`. `seconds` are the spans of docs/performance.md:
`serialise`, `upload`, `visible`, `aggregate`, and `as_shipped`, which has the peer's own waiting.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

VALUES_PER_MB = 262_144
TOLERANCE = 1e-5


def shapes(megabytes: int, tensors: int) -> list[int]:
    """Elements of each tensor; the layouts of `benchmarks.ingestion.payloads`."""
    values = megabytes * VALUES_PER_MB
    if tensors in (1, 8):
        return [values // tensors] * tensors
    small = max(1, values // 40_000)
    large = (values - 120 * small) // 40
    return [small] * 120 + [large] * 39 + [values - 120 * small - 39 * large]


def arrays(megabytes: int, tensors: int, repeat: int) -> list[np.ndarray]:
    """Normal noise, another for each repeat: nothing is shared or compressed."""
    rng = np.random.default_rng(1000 + repeat)
    return [rng.standard_normal(n, dtype=np.float32) for n in shapes(megabytes, tensors)]


def arguments(description: str) -> argparse.ArgumentParser:
    """What the driver passes to every harness."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--megabytes", type=int, required=True)
    parser.add_argument("--tensors", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True, help="the first one warms up")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--role", default="driver")
    return parser


def report(**fields: object) -> None:
    """One line for the driver."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def leave(path: Path, document: object) -> None:
    """A file that another process of the harness waits for; never half written."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(document))
    unfinished.replace(path)


def await_document(path: Path, seconds: float = 300.0) -> dict:
    """What the other process left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists():
            return json.loads(path.read_text())
        time.sleep(0.005)
    raise SystemExit(f"{path.name} did not come")


def is_close(found: list[np.ndarray], due: list[np.ndarray]) -> bool:
    """Whether the aggregate is the one numpy gets."""
    return len(found) == len(due) and all(
        a.size == b.size and float(np.max(np.abs(a.reshape(-1) - b.reshape(-1)))) < TOLERANCE
        for a, b in zip(found, due, strict=True)
    )
