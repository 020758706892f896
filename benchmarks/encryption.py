"""What encryption at rest costs: an upload made durable, and a payload read, plain and sealed.

Both kinds run by turns in one process, so that a busy machine is busy for both; ratios of medians.
An upload is what the coordinator does with it: appended in messages of 1 MiB while it is hashed,
made durable, looked at whole, and published. A read is the whole payload, checked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from coordinator.adapters.blob_places import BlobPlace, local_place
from coordinator.adapters.disk_staging import DiskStagingArea
from coordinator.adapters.key_records import SqliteKeyRecords
from coordinator.adapters.sealed_staging import SealedStagingArea
from coordinator.adapters.wrapping_keys import FileWrappingKeys
from coordinator.ports import BlobStore, StagingArea
from coordinator.services.key_ring import KeyRing
from letheon.federation.encoding import decode
from letheon.servicekit.clock import SystemClock

RESULTS = Path(__file__).parent / "results" / "encryption.json"
MESSAGE = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keys", type=int, default=10_000, help="survivors that are wrapped anew")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = _measure(Path(folder), options.megabytes * 1_000_000, options.rounds)
        found["rewrap"] = _rewrap(Path(folder), options.keys)
    print(json.dumps(found, indent=2))
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def _measure(root: Path, size: int, rounds: int) -> dict[str, Any]:
    ring = KeyRing(FileWrappingKeys(root / "keys"), SqliteKeyRecords(root / "keys"))
    plain = local_place(root / "plain", SystemClock())
    sealed = local_place(root / "sealed", SystemClock(), ring)
    payloads = sealed.sealed
    if payloads is None:
        raise RuntimeError("the place is not sealed")
    places: dict[str, tuple[BlobPlace, StagingArea]] = {
        "plain": (plain, DiskStagingArea(root / "p", plain.blobs.payloads, reserve_bytes=0)),
        "sealed": (sealed, SealedStagingArea(root / "s", payloads, ring, reserve_bytes=0)),
    }
    times: dict[str, list[float]] = {
        f"{what}_{k}": [] for k in places for what in ("write", "read")
    }
    for number in range(rounds):
        values = np.random.default_rng(number).standard_normal(size // 4).astype(np.float32)
        data = values.tobytes()
        sha256 = hashlib.sha256(data).hexdigest()
        for kind, (place, area) in places.items():
            kept = place.blobs.payloads
            times[f"write_{kind}"].append(_timed(partial(_upload, area, data)))
            times[f"read_{kind}"].append(_timed(partial(_read, kept, sha256)))
            kept.destroy(sha256)
    medians = {name: statistics.median(each) for name, each in times.items()}
    ring.close()
    return {
        "megabytes": size / 1e6,
        "rounds": rounds,
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "write_sealed_to_plain": round(medians["write_sealed"] / medians["write_plain"], 3),
        "read_sealed_to_plain": round(medians["read_sealed"] / medians["read_plain"], 3),
        "peak_memory_megabytes": round(psutil.Process().memory_info().rss / 1e6),
        "cores": os.cpu_count(),
    }


def _read(payloads: BlobStore, sha256: str) -> None:
    float(decode(payloads.get(sha256), "float32").sum())


def _upload(area: StagingArea, data: bytes) -> None:
    with area.open("update", len(data)) as staging:
        for at in range(0, len(data), MESSAGE):
            staging.append(data[at : at + MESSAGE])
        staging.sync()
        float(decode(staging.view(), "float32").sum())
        staging.publish()


def _rewrap(root: Path, keys: int) -> dict[str, float]:
    ring = KeyRing(FileWrappingKeys(root / "many"), SqliteKeyRecords(root / "many"))
    for number in range(keys):
        ring.keep("payloads", f"{number:064x}", ring.fresh(), blob="b" * 64, size_bytes=1)
    ring.forget("payloads", f"{0:064x}")
    seconds = _timed(ring.shred)
    ring.close()
    return {"keys": keys, "seconds": round(seconds, 3)}


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
