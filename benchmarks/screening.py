"""How often screening takes honest sites for attackers, and how often it finds poisoned deltas.

Sites whose records differ train asynchronously; every delta is judged as the coordinator would,
then merged. Now and then a delta is also judged in poisoned forms, which are never merged. Two
federations: the four hospitals of the heart disease data as they are (and half of Cleveland as a
fifth), and five sites of blood cells with skewed classes.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from letheon import registry
from letheon.federation.screening import Finding, Rules, Seen, judge, sketch
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, read_weights, write_weights
from letheon.imaging.partition import dirichlet_partition
from letheon.imaging.records import Records

Vector = npt.NDArray[np.float32]


def _noise_of(delta: Vector, rng: np.random.Generator) -> Vector:
    noise = rng.standard_normal(delta.size).astype(np.float32)
    return noise * np.float32(np.linalg.norm(delta) / np.linalg.norm(noise))


RESULTS: Final = Path(__file__).parent / "results" / "screening.json"
SITES_FILE: Final = Path(__file__).parents[1] / "examples" / "heart_disease" / "sites.toml"
FORMS: Final[dict[str, Callable[[Vector, np.random.Generator], Vector]]] = {
    "scaled x10": lambda delta, _: delta * np.float32(10),
    "sign flipped": lambda delta, _: -delta,
    "sign flipped, scaled x3": lambda delta, _: delta * np.float32(-3),
    "noise of the same norm": _noise_of,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--deltas", type=int, default=200, help="accepted deltas of each run")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = {}
    for name, load in (("heart_disease", _hearts), ("pbc_blood", _blood)):
        tallies = [
            _run(*load(options.data, seed), deltas=options.deltas, seed=seed)
            for seed in range(options.seeds)
        ]
        found[name] = _summary(tallies)
        print(name, json.dumps(found[name], indent=2), flush=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def _hearts(data: Path, seed: int) -> tuple[dict[str, Records], dict[str, Any]]:
    told = tomllib.loads(SITES_FILE.read_text(encoding="utf-8"))
    shared = told["agent"]["data"]["arguments"]
    sites: dict[str, Records] = {}
    for name, site in told["sites"].items():
        path = site["data"]["arguments"]["path"].replace("{data}", str(data))
        source = registry.find(registry.SOURCES, "tabular_csv")
        sites[name] = source(path=path, **shared).load()  # type: ignore[operator]
    order = np.random.default_rng(seed).permutation(len(sites["cleveland"]))
    whole, half = sites["cleveland"], len(order) // 2
    sites["cleveland"] = whole.select(np.sort(order[:half]))
    sites["cleveland-2"] = whole.select(np.sort(order[half:]))
    plan = told["plan"]
    return sites, {"model": plan["model"], "training": plan["training"], "rate": 0.3}


def _blood(data: Path, seed: int) -> tuple[dict[str, Records], dict[str, Any]]:
    source = registry.find(registry.SOURCES, "npz")
    records = source(path=data / "pbc_blood" / "pbc_blood_28.npz").load()  # type: ignore[operator]
    some = records.select(np.sort(np.random.default_rng(seed).permutation(len(records))[:2000]))
    deal = dirichlet_partition(some.labels, 5, 0.3, seed)
    sites = {f"site-{i}": some.select(rows) for i, rows in enumerate(deal)}
    training = {"local_steps": 8, "batch_size": 32, "learning_rate": 0.05}
    model = {"plugin": "small_cnn", "arguments": {"width": 8}}
    return sites, {"model": model, "training": training, "rate": 0.3}


def _run(
    sites: dict[str, Records], plan: dict[str, Any], *, deltas: int, seed: int
) -> dict[str, Any]:
    first = next(iter(sites.values()))
    spec, classes = spec_of(first.images.shape[1:]), len(first.class_names)
    model, told = plan["model"], plan["training"]
    module = initialise(model["plugin"], model.get("arguments", {}), spec, classes, seed)
    shapes = {name: value.shape for name, value in read_weights(module).items()}
    settings = LocalTraining(
        steps=told["local_steps"],
        batch_size=told["batch_size"],
        learning_rate=told["learning_rate"],
    )
    rng, rules, recent = np.random.default_rng(seed), Rules(), []
    head = _flat(read_weights(module))
    speeds = {name: float(rng.uniform(0.5, 2.0)) for name in sites}
    agenda = [(speeds[name], name, 0, head, 0) for name in sites]
    heapq.heapify(agenda)
    honest: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    poisoned: dict[str, list[bool]] = {form: [] for form in FORMS}
    cosines: list[float] = []
    for version in range(deltas):
        now, site, number, base, base_version = heapq.heappop(agenda)
        write_weights(module, _named(base, shapes))
        train_locally(module, sites[site], settings, seed=1000 * seed + version)
        delta = _flat(read_weights(module)) - base
        finding = _judge(site, delta, recent, rules)
        if finding.norm_ratio is not None and finding.cosine is not None:
            judged[site] += 1
            honest[site] += bool(finding.reason)
            cosines.append(finding.cosine)
            if version % 4 == 0:
                for form, make in FORMS.items():
                    reason = _judge(site, make(delta, rng), recent, rules).reason
                    poisoned[form].append(bool(reason))
        if not finding.reason:
            recent = [*recent, Seen(site, float(np.linalg.norm(delta)), sketch(delta))]
            recent = recent[-rules.history :]
        discount = (1.0 + version - base_version) ** -0.5
        head = head + np.float32(plan["rate"] * discount) * delta
        after = now + speeds[site] * float(rng.uniform(0.8, 1.2))
        heapq.heappush(agenda, (after, site, number + 1, head, version + 1))
    return {"judged": judged, "honest": honest, "poisoned": poisoned, "cosines": cosines}


def _judge(site: str, delta: Vector, recent: list[Seen], rules: Rules) -> Finding:
    return judge(site, float(np.linalg.norm(delta)), sketch(delta), recent, rules)


def _summary(tallies: list[dict[str, Any]]) -> dict[str, Any]:
    judged = sum((t["judged"] for t in tallies), Counter())
    honest = sum((t["honest"] for t in tallies), Counter())
    cosines = np.concatenate([t["cosines"] for t in tallies])
    return {
        "honest_judged": judged.total(),
        "honest_quarantined": honest.total(),
        "honest_quarantined_by_site": dict(sorted(honest.items())),
        "honest_cosine_percentiles": {
            p: round(float(np.percentile(cosines, p)), 3) for p in (0, 1, 10, 50, 90)
        },
        "poisoned_found": {
            form: f"{sum(sum(t['poisoned'][form]) for t in tallies)} of "
            f"{sum(len(t['poisoned'][form]) for t in tallies)}"
            for form in FORMS
        },
    }


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
