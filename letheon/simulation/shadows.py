"""LiRA on the heads of a study that was run: the strongest attack, without training anew.

`python -m letheon.simulation.shadows` reads the heads that the core study keeps and scores the
target's records on them. Offline LiRA (Carlini et al., arXiv 2112.03570) asks how far a head's
confidence in a record lies above that of shadow models that never saw it. A shadow federation for
each would take weeks; the shadows here are trained centrally on random halves of the retained
sites' records, so that none of them saw the target, and each is compared with every head. That is
what an attacker of an erased model has as well (U-LiRA, Hayes et al., arXiv 2403.01218).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from letheon.errors import BadData, LetheonError
from letheon.federation.parameters import Vector
from letheon.imaging.local_training import LocalTraining, train_locally
from letheon.imaging.records import Records
from letheon.imaging.scores import predict
from letheon.simulation.hospitals import Hospitals
from letheon.simulation.laboratory import Experiment, read_experiment, write_result
from letheon.simulation.sites import Network
from letheon.simulation.unit import UnitRun
from letheon.simulation.units import Unit, state_folder
from letheon.simulation.virtual_time import derived_seed
from letheon.unlearning.evidence.low_false_positives import low_false_positives
from letheon.unlearning.evidence.membership import lira_scores, membership, scaled_confidences

FORMAT = "letheon-study-lira/1"
NAME = "lira"
IMAGES = "blood"  # the least noise, the most classes
BEFORE = "before"
HEADS = (BEFORE, "leave", "removal", "removal_recombined", "retrain")
MOMENT = "60"  # retained deltas after the request
SHADOWS = 64  # from which LiRA's authors give each record a variance of its own
STEPS = 300
FINE_STEPS = 100  # more at the final rate, as the plan's rate falls
RESAMPLES = 200

Floats = npt.NDArray[np.float64]


def pooled(hospitals: Hospitals) -> Records:
    """What the retained sites train on, one after the other."""
    parts = [hospitals.sites[site].train for site in hospitals.retained()]
    patients = None
    if all(part.patients is not None for part in parts):
        patients = tuple(name for part in parts for name in part.groups())
    return replace(
        parts[0],
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        record_ids=tuple(name for part in parts for name in part.record_ids),
        patients=patients,
    )


def confidences(module: nn.Module, records: Records) -> Floats:
    """Logit-scaled confidence [n] in the labels."""
    return scaled_confidences(predict(module, records.images).log_probabilities, records.labels)


def shadow_confidences(
    network: Network, pool: Records, wanted: Sequence[Records], *, count: int, steps: int, seed: int
) -> list[Floats]:
    """Of `count` shadows, each trained on a random half of the pool: [count, n] for each of
    `wanted`, which no shadow sees.

    The network's weights are overwritten. Raises BadData for a pool of fewer than two records.
    """
    if len(pool) < 2:
        raise BadData(f"shadows train on halves of a pool, and this one has {len(pool)} records")
    seen: list[list[Floats]] = [[] for _ in wanted]
    for number in range(count):
        own = derived_seed(seed, "shadow", number)
        rows = np.random.default_rng(own).permutation(len(pool))[: len(pool) // 2]
        module = _trained(network, pool.select(np.sort(rows)), steps, own)
        for place, records in enumerate(wanted):
            seen[place].append(confidences(module, records))
    return [np.stack(rows) for rows in seen]


def _trained(network: Network, records: Records, steps: int, seed: int) -> nn.Module:
    told = network.plan.training
    module = network.load(network.initial(seed))
    for part, count, rate in (
        (0, steps, told.learning_rate_at(0)),
        (1, min(steps, FINE_STEPS), told.final_learning_rate or told.learning_rate),
    ):
        settings = LocalTraining(
            steps=count,
            batch_size=told.batch_size,
            learning_rate=rate,
            momentum=told.momentum,
            clip_norm=told.clip_norm,
            weight_decay=told.weight_decay,
        )
        train_locally(module, records, settings, derived_seed(seed, "part", part))
    return module


def kept_head(state: Path, label: str) -> Vector:
    """The head [d] a unit keeps: at the request, or a branch's at +60.

    Raises BadData, saying what to run, if it is not there.
    """
    path, array = state / f"{label}.npz", "head" if label == BEFORE else MOMENT
    try:
        with np.load(path, allow_pickle=False) as table:
            return np.array(table[array])
    except (OSError, KeyError, ValueError) as error:
        raise BadData(
            f"{path} holds no head {array!r}: run `letheon simulate` with this study first"
        ) from error


def attack(experiment: Experiment, unit: Unit, *, shadows: int, steps: int) -> dict[str, Any]:
    """LiRA on every head of one unit. Raises BadData for a head that is missing."""
    state = state_folder(experiment.out, unit)
    heads = {label: kept_head(state, label) for label in HEADS}
    run = UnitRun(experiment.study, unit, experiment.out, experiment.data)
    held = run.hospitals.sites[run.hospitals.target]
    sides = (held.train, held.control)
    shadowed = shadow_confidences(
        run.network,
        pooled(run.hospitals),
        sides,
        count=shadows,
        steps=steps,
        seed=derived_seed(unit.seed, NAME),
    )
    models = {}
    for label, weights in heads.items():
        module = run.network.load(weights)
        scores = [
            lira_scores(confidences(module, records), seen)
            for records, seen in zip(sides, shadowed, strict=True)
        ]
        models[label] = _judged(scores[0], scores[1], held.train, held.control, unit.seed)
    return {
        "seed": unit.seed,
        "target": run.hospitals.target,
        "members": len(held.train),
        "others": len(held.control),
        "models": models,
    }


def _judged(
    members: Floats, others: Floats, train: Records, control: Records, seed: int
) -> dict[str, Any]:
    groups = train.groups(), control.groups()
    measured = membership(
        members, others, *groups, resamples=RESAMPLES, seed=derived_seed(seed, NAME, "bootstrap")
    )
    sure = low_false_positives(members, others, *groups)
    return {
        "auc": [round(n, 5) for n in (measured.auc, measured.auc_low, measured.auc_high)],
        "tpr_at_1pct": [round(n, 5) for n in (sure.tpr, sure.low, sure.high)],
    }


def run_lira(experiment: Experiment, *, shadows: int = SHADOWS, steps: int = STEPS) -> None:
    """Writes the result after every seed."""
    torch.set_num_threads(1)
    units: list[dict[str, Any]] = []
    for seed in experiment.seeds:
        unit = experiment.unit(IMAGES, "honest", seed)
        units.append(attack(experiment, unit, shadows=shadows, steps=steps))
        told = {
            "format": FORMAT,
            "study": experiment.study.name,
            "settings": experiment.study.digest(unit.images),
            "images": IMAGES,
            "kind": "honest",
            "moment": int(MOMENT),
            "shadows": shadows,
            "steps": steps + min(steps, FINE_STEPS),
            "units": units,
        }
        write_result(experiment.result, told)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 2 if the study or its heads are not there."""
    try:
        run_lira(read_experiment(NAME, "core", arguments))
    except LetheonError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
