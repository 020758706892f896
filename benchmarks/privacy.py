"""What differential privacy at the agents costs in accuracy.

Sites train asynchronously, all of them privately or none; the rest is the same: records, order of
deltas, merging. Epsilon is what the accountant of an agent counts for the site that spent most.
Two federations: four hospitals and half of a fifth with tables of heart disease, and five sites of
chest images. Rates and batches are those of plain training: nothing was tuned for private training.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch import nn

from letheon import registry
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, read_weights, write_weights
from letheon.imaging.partition import dirichlet_partition
from letheon.imaging.privacy_accounting import NoisySteps, epsilon_of
from letheon.imaging.private_training import (
    PrivateTraining,
    sampling_rate,
    train_privately,
)
from letheon.imaging.records import Records
from letheon.imaging.secret_random import SecretRandom
from letheon.imaging.tasks.classification import Classification

Vector = npt.NDArray[np.float32]

RESULTS: Final = Path(__file__).parent / "results" / "privacy.json"
SITES_FILE: Final = Path(__file__).parents[1] / "examples" / "heart_disease" / "sites.toml"
NOISE: Final = (None, 0.0, 1.0, 2.0, 4.0, 8.0)  # None: not private; 0: clipped, no noise
DELTA: Final = 1e-4
TEST_SHARE: Final = 0.2


@dataclass(frozen=True)
class Case:
    """A federation and how it trains."""

    name: str
    model: dict[str, Any]
    deltas: int
    steps: int
    batch_size: int
    rate: float  # of the local steps
    private_rate: float
    clip_norm: float
    weight: float  # of a fresh delta


CASES: Final = (
    Case("heart_disease", {"plugin": "mlp", "arguments": {"hidden": []}},
         deltas=100, steps=8, batch_size=32, rate=0.1, private_rate=0.1, clip_norm=1.0,
         weight=0.3),
    Case("pneumonia", {"plugin": "small_cnn", "arguments": {"width": 4}},
         deltas=30, steps=8, batch_size=64, rate=0.05, private_rate=0.05, clip_norm=1.0,
         weight=0.3),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", default=[case.name for case in CASES])
    parser.add_argument("--result", type=Path, default=RESULTS)
    told = parser.parse_args()
    rows = []
    for case in CASES:
        if case.name not in told.cases:
            continue
        for seed in told.seeds:
            sites, test = LOADERS[case.name](told.data, seed)
            for noise in NOISE:
                rows.append(_run(case, sites, test, noise, seed))
                print(json.dumps(rows[-1]), flush=True)
                # After each, because somebody may not wait for the last.
                told.result.write_text(json.dumps({"delta": DELTA, "runs": rows}, indent=1) + "\n")
    print_table(rows)


def _hearts(data: Path, seed: int) -> tuple[dict[str, Records], Records]:
    told = tomllib.loads(SITES_FILE.read_text(encoding="utf-8"))
    shared = told["agent"]["data"]["arguments"]
    sites: dict[str, Records] = {}
    for name, site in told["sites"].items():
        path = site["data"]["arguments"]["path"].replace("{data}", str(data))
        source = registry.find(registry.SOURCES, "tabular_csv")
        sites[name] = source(path=path, **shared).load()  # type: ignore[operator]
    return _split(sites, seed)


def _chests(data: Path, seed: int) -> tuple[dict[str, Records], Records]:
    source = registry.find(registry.SOURCES, "npz")
    (path,) = (data / "pneumoniamnist").glob("*.npz")
    records = source(path=path, split="all").load()  # type: ignore[operator]
    deal = dirichlet_partition(records.labels, 5, 1.0, seed)
    return _split({f"site-{i}": records.select(rows) for i, rows in enumerate(deal)}, seed)


LOADERS: Final = {"heart_disease": _hearts, "pneumonia": _chests}


def _split(sites: dict[str, Records], seed: int) -> tuple[dict[str, Records], Records]:
    """Training records of each site, and test records of all."""
    train, test = {}, []
    for name, records in sites.items():
        order = np.random.default_rng(seed).permutation(len(records))
        held = round(TEST_SHARE * len(records))
        test.append(records.select(np.sort(order[:held])))
        train[name] = records.select(np.sort(order[held:]))
    first = test[0]
    joined = Records(
        images=np.concatenate([np.asarray(one.images[np.arange(len(one))]) for one in test]),
        labels=np.concatenate([one.labels for one in test]),
        record_ids=tuple(f"t{i}" for i in range(sum(map(len, test)))),
        patients=None,
        class_names=first.class_names,
    )
    return train, joined


def _run(
    case: Case, sites: dict[str, Records], test: Records, noise: float | None, seed: int
) -> dict[str, Any]:
    spec, classes = spec_of(test.images.shape[1:]), len(test.class_names)
    module = initialise(case.model["plugin"], case.model["arguments"], spec, classes, seed)
    shapes = {name: value.shape for name, value in read_weights(module).items()}
    rng, head = np.random.default_rng(seed), _flat(read_weights(module))
    secret = SecretRandom(np.random.default_rng([seed, 1]).bytes)
    speeds = {name: float(rng.uniform(0.5, 2.0)) for name in sites}
    agenda = [(speeds[name], name, head, 0) for name in sites]
    heapq.heapify(agenda)
    sent: Counter[str] = Counter()
    for version in range(case.deltas):
        now, site, base, base_version = heapq.heappop(agenda)
        write_weights(module, _named(base, shapes))
        _train(case, module, sites[site], noise, 1000 * seed + version, secret)
        delta = _flat(read_weights(module)) - base
        head = head + np.float32(case.weight * (1.0 + version - base_version) ** -0.5) * delta
        sent[site] += 1
        again = now + speeds[site] * float(rng.uniform(0.8, 1.2))
        heapq.heappush(agenda, (again, site, head, version + 1))
    write_weights(module, _named(head, shapes))
    seen = Classification().utility(module, test)
    return {
        "case": case.name,
        "seed": seed,
        "noise_multiplier": noise,
        "epsilon": _epsilon(case, sites, sent, noise),
        "accuracy": round(seen.accuracy, 5),
        "balanced_accuracy": round(seen.balanced_accuracy, 5),
    }


def _train(
    case: Case,
    module: nn.Module,
    records: Records,
    noise: float | None,
    seed: int,
    secret: SecretRandom,
) -> None:
    if noise is None:
        plain = LocalTraining(steps=case.steps, batch_size=case.batch_size, learning_rate=case.rate)
        train_locally(module, records, plain, seed)
        return
    private = PrivateTraining(
        steps=case.steps,
        batch_size=case.batch_size,
        learning_rate=case.private_rate,
        momentum=0.9,
        weight_decay=0.0,
        clip_norm=case.clip_norm,
        noise_multiplier=noise,
    )
    train_privately(module, records, private, seed, chance=secret)


def _epsilon(
    case: Case, sites: dict[str, Records], sent: Counter[str], noise: float | None
) -> float | None:
    """Of the site that spent most; None where nothing bounds it."""
    if not noise:
        return None
    spent = (
        NoisySteps(noise, sampling_rate(case.batch_size, len(sites[site])), case.steps * count)
        for site, count in sent.items()
    )
    return round(max(epsilon_of([one], DELTA) for one in spent), 3)


def print_table(rows: list[dict[str, Any]]) -> None:
    """A row a noise multiplier; mean and standard deviation over the seeds."""
    cases = sorted({row["case"] for row in rows})
    print(f"\nepsilon at delta {DELTA:g}, accuracy in %, mean ± deviation over seeds\n")
    print("| noise | " + " | ".join(f"{one}: epsilon | accuracy" for one in cases) + " |")
    print("|---" * (1 + 2 * len(cases)) + "|")
    for noise in NOISE:
        words = {None: "not private", 0.0: "clipped, no noise"}.get(noise, f"{noise}")
        cells = [words]
        for one in cases:
            own = [r for r in rows if (r["case"], r["noise_multiplier"]) == (one, noise)]
            scores = [100 * row["accuracy"] for row in own]
            spread = f" ± {stdev(scores):.1f}" if len(scores) > 1 else ""
            spent = [row["epsilon"] for row in own]
            bound = "-" if None in spent else f"{fmean(spent):.2f}"
            cells += [bound, f"{fmean(scores):.1f}{spread}"]
        print("| " + " | ".join(cells) + " |")


def _flat(weights: dict[str, Vector]) -> Vector:
    return np.concatenate([value.ravel() for value in weights.values()])


def _named(vector: Vector, shapes: dict[str, tuple[int, ...]]) -> dict[str, Vector]:
    found, at = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        found[name] = vector[at : at + size].reshape(shape)
        at += size
    return found


if __name__ == "__main__":
    main()
