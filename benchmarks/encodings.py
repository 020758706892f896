"""What a delta costs to send, and what that costs in accuracy.

Trains the same federation once for each encoding, in the simulator: same hospitals, same seeds,
same order of deltas; only how deltas travel differs. Bytes are those of the payloads as encoded.
Accuracy is the mean of the last looks, on test records of all sites.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from letheon.simulation.central import Central
from letheon.simulation.config import StudyConfig, load_study
from letheon.simulation.federation import Federation
from letheon.simulation.running import train
from letheon.simulation.unit import UnitRun
from letheon.simulation.units import Unit
from letheon.simulation.virtual_time import derived_seed

RESULTS = Path(__file__).parent / "results" / "encodings.json"
STUDY = Path(__file__).parent / "studies" / "core.toml"
IMAGES = ("pneumonia", "blood")
DELTAS = 150
LOOKS, LOOK_EVERY = 5, 3  # at the end: one version differs from the next by a point or two
#: Encoding and the share of values that topk keeps.
CASES = (
    ("float32", 0.05),
    ("float32+zstd", 0.05),
    ("float16", 0.05),
    ("bfloat16", 0.05),
    ("int8", 0.05),
    ("int8+zstd", 0.05),
    ("topk", 0.05),
    ("topk+zstd", 0.05),
    ("topk+zstd", 0.01),
)


def main() -> None:
    """Runs what the command line asks for, prints the table, writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the images; LETHEON_DATA without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--deltas", type=int, default=DELTAS)
    parser.add_argument("--result", type=Path, default=RESULTS)
    told = parser.parse_args()
    study = load_study(STUDY)
    rows = [
        measured(study, images, seed, case, told.deltas, told.data)
        for images in IMAGES
        for seed in told.seeds
        for case in CASES
    ]
    told.result.write_text(json.dumps({"deltas": told.deltas, "runs": rows}, indent=1) + "\n")
    print_table(rows, told.deltas)


def measured(
    study: StudyConfig,
    images: str,
    seed: int,
    case: tuple[str, float],
    deltas: int,
    data: Path | None,
) -> dict[str, Any]:
    """One federation with one encoding."""
    config = next(one for one in study.images if one.name == images)
    with TemporaryDirectory() as folder:
        unit = UnitRun(study, Unit(config, "honest", seed), Path(folder), data)
    encoding, share = case
    plan = unit.plan.model_copy(update={"encoding": encoding, "top_share": share})
    initial = unit.network.initial(derived_seed(seed, "initial"))
    central = Central.begin(replace(unit.rules(), plan=plan), initial)
    looks: dict[int, float] = {}

    def watch(now: Federation) -> None:
        behind = deltas - now.accepted()
        if behind % LOOK_EVERY == 0 and 0 <= behind < LOOKS * LOOK_EVERY and behind not in looks:
            seen = unit.lens.look(now.central.head, accepted=0, seconds=0.0, version=0)
            looks[behind] = seen.accuracy

    federation = Federation.begin(unit.setting(), central)
    train(federation, lambda one: one.accepted() >= deltas, watch)
    found = {
        "images": images,
        "seed": seed,
        "encoding": encoding,
        "top_share": share if encoding.startswith("topk") else None,
        "values": unit.network.layout.size,
        "bytes_per_delta": round(federation.central.received_bytes / federation.accepted()),
        "accuracy": round(fmean(looks.values()), 5),
    }
    print(json.dumps(found), flush=True)
    return found


def print_table(rows: list[dict[str, Any]], deltas: int) -> None:
    """Bytes as a share of float32's; accuracy as a gap to it, paired by seed."""
    print(f"\nafter {deltas} deltas; bytes / float32's, accuracy in points, gap to float32\n")
    print(
        "| encoding | "
        + " | ".join(f"{images}: bytes | accuracy | gap" for images in IMAGES)
        + " |"
    )
    print("|---" * (1 + 3 * len(IMAGES)) + "|")
    for encoding, share in CASES:
        kept = share if encoding.startswith("topk") else None
        cells = [encoding if kept is None else f"{encoding}, {100 * share:g} %"]
        for images in IMAGES:
            own = _of(rows, images, encoding, kept)
            plain = _of(rows, images, "float32", None)
            if own.keys() != plain.keys() or not own:
                cells += ["-", "-", "-"]
                continue
            ratio = fmean(own[s]["bytes_per_delta"] / plain[s]["bytes_per_delta"] for s in own)
            gaps = [100 * (own[s]["accuracy"] - plain[s]["accuracy"]) for s in own]
            spread = f" ± {stdev(gaps):.1f}" if len(gaps) > 1 else ""
            accuracy = 100 * fmean(own[s]["accuracy"] for s in own)
            cells += [f"{ratio:.3f}", f"{accuracy:.1f}", f"{fmean(gaps):+.1f}{spread}"]
        print("| " + " | ".join(cells) + " |")


def _of(
    rows: list[dict[str, Any]], images: str, encoding: str, share: float | None
) -> dict[int, dict[str, Any]]:
    wanted = (images, encoding, share)
    return {
        row["seed"]: row
        for row in rows
        if (row["images"], row["encoding"], row["top_share"]) == wanted
    }


if __name__ == "__main__":
    main()
