"""What BatchNorm's running statistics keep of a subject whose contribution was subtracted.

`python -m letheon.simulation.statistics_leak` trains one federation, removes the target's
contribution, and trains on. Beside the weights it carries statistics as naive federations do:

- `subject`: copied from the target's last upload, as the authors of AFU-IC do with their first
  party's; nobody else's upload ever replaces them;
- `averaged`: each upload moves them by a fixed share, as averaging would;
- `re_estimated`: the cure, from nothing, on the retained sites' records after the removal.

In training BatchNorm uses the batch's own statistics, so that the weights are the same bits
whichever statistics are carried: what differs is due to the statistics alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from letheon.errors import LetheonError
from letheon.federation.parameters import Vector
from letheon.imaging.records import Records
from letheon.imaging.scores import record_losses
from letheon.simulation.batch_norm import (
    BatchNormNetwork,
    estimate_statistics,
    read_statistics,
    write_statistics,
)
from letheon.simulation.central import Central, Rules
from letheon.simulation.config import Kind
from letheon.simulation.evidence_at import Floats
from letheon.simulation.federation import Federation
from letheon.simulation.laboratory import Experiment, read_experiment, write_result
from letheon.simulation.measure import Lens
from letheon.simulation.running import train
from letheon.simulation.shadows import pooled
from letheon.simulation.sites import TorchTrainer
from letheon.simulation.unit import UnitRun
from letheon.simulation.virtual_time import derived_seed
from letheon.unlearning.evidence.membership import calibrated_scores, membership

FORMAT = "letheon-study-statistics/1"
NAME = "statistics-leak"
IMAGES = "pneumonia"
KINDS: tuple[Kind, ...] = ("backdoored", "honest")
WIDTH = 8
SHARE = 0.2  # of an upload's statistics in the average: five sites
AFTER = 60  # retained deltas from the removal to the last measurement
RESAMPLES = 200

Losses = tuple[Floats, Floats]  # of members [n] and others [m], nats


@dataclass
class CarryingTrainer(TorchTrainer):
    """Local training that brings statistics back beside each delta, as it arrives."""

    network: BatchNormNetwork
    target: str
    sites: Mapping[str, Records]  # what each trains on
    averaged: Vector = field(init=False)  # [s]
    subject: Vector = field(init=False)  # [s], of the target's last upload

    def __post_init__(self) -> None:
        super().__init__(self.network, self.sites)
        fresh = read_statistics(BatchNormNetwork.with_width(self.network.plan, WIDTH).module)
        self.averaged, self.subject = fresh, fresh

    def delta(
        self,
        site: str,
        base: Vector,
        *,
        learning_rate: float,
        seed: int,
        steps: int | None = None,
    ) -> Vector:
        """As `TorchTrainer.delta`, beginning with the averaged statistics."""
        write_statistics(self.network.module, self.averaged)
        change = super().delta(site, base, learning_rate=learning_rate, seed=seed, steps=steps)
        uploaded = read_statistics(self.network.module)
        self.averaged = self.averaged + np.float32(SHARE) * (uploaded - self.averaged)
        if site == self.target:
            self.subject = uploaded
        return change


class Bench:
    """One unit: its federation, and how a head with statistics is measured."""

    def __init__(self, experiment: Experiment, kind: Kind, seed: int) -> None:
        """Raises BadData or BadConfig as a unit does."""
        unit = experiment.unit(IMAGES, kind, seed)
        self.run = UnitRun(experiment.study, unit, experiment.out, experiment.data)
        self.hospitals, self.seed = self.run.hospitals, seed
        self.before = unit.images.before or experiment.study.before
        self.network = BatchNormNetwork.with_width(self.run.plan, WIDTH)
        self.lens = Lens(self.network, self.hospitals, seed)
        self.retained = pooled(self.hospitals)

    def federation(self, *, without_target: bool) -> tuple[Federation, CarryingTrainer]:
        """From the beginning, with the trainer that carries its statistics."""
        held = {name: site.train for name, site in self.hospitals.sites.items()}
        trainer = CarryingTrainer(self.network, self.hospitals.target, held)
        setting = replace(self.run.setting(without_target=without_target), trainer=trainer)
        rules = Rules(self.run.plan, self.network.layout, self.run.plan.build_strategy())
        initial = self.network.initial(derived_seed(self.seed, "initial"))
        return Federation.begin(setting, Central.begin(rules, initial)), trainer

    def estimated(self, head: Vector) -> Vector:
        """The statistics [s] of a head on the retained sites' records."""
        return estimate_statistics(self.network.load(head), self.retained)

    def losses(self, head: Vector, statistics: Vector) -> Losses:
        """Of the target's records and of those it set aside, nats."""
        write_statistics(self.network.module, statistics)
        module, held = self.network.load(head), self.hospitals.sites[self.hospitals.target]
        return record_losses(module, held.train)[0], record_losses(module, held.control)[0]

    def measured(self, head: Vector, statistics: Vector, reference: Losses) -> dict[str, Any]:
        """Utility, backdoors and membership; losses are calibrated by a retrained model's."""
        own = self.losses(head, statistics)
        look = self.lens.look(head, accepted=0, seconds=0.0, version=0)
        held = self.hospitals.sites[self.hospitals.target]
        attack = membership(
            calibrated_scores(own[0], reference[0]),
            calibrated_scores(own[1], reference[1]),
            held.train.groups(),
            held.control.groups(),
            resamples=RESAMPLES,
            seed=derived_seed(self.seed, NAME),
        )
        told = look.to_json()
        return {
            **{key: told[key] for key in ("accuracy", "disclosed", "undisclosed")},
            "membership_auc": round(attack.auc, 5),
        }


def leak(experiment: Experiment, kind: Kind, seed: int) -> dict[str, Any]:
    """One unit: before, right after the removal and 60 deltas later, by statistics carried."""
    bench = Bench(experiment, kind, seed)
    federation, trainer = bench.federation(without_target=False)
    target = bench.hospitals.target
    train(federation, lambda f: f.accepted() >= bench.before, lambda _: None)
    offset = federation.accepted(without={target})
    retrained, carried = bench.federation(without_target=True)
    train(retrained, lambda f: f.accepted() >= offset + AFTER, lambda _: None)
    own = np.array(retrained.central.head)
    reference = bench.losses(own, bench.estimated(own))
    heads = {"before": _by_statistics(bench, federation, trainer, reference)}
    federation.central.remove(target, federation.now, subtract=True)
    federation.supersede()
    heads["removal"] = _by_statistics(bench, federation, trainer, reference)
    train(federation, lambda f: f.accepted(without={target}) >= offset + AFTER, lambda _: None)
    heads[f"removal+{AFTER}"] = _by_statistics(bench, federation, trainer, reference)
    heads[f"retrain+{AFTER}"] = {
        name: bench.measured(own, statistics, reference)
        for name, statistics in (
            ("averaged", carried.averaged),
            ("re_estimated", bench.estimated(own)),
        )
    }
    return {"kind": kind, "seed": seed, "target": target, "heads": heads}


def _by_statistics(
    bench: Bench, federation: Federation, trainer: CarryingTrainer, reference: Losses
) -> dict[str, Any]:
    head = np.array(federation.central.head)
    carried = {
        "subject": trainer.subject,
        "averaged": trainer.averaged,
        "re_estimated": bench.estimated(head),
    }
    return {name: bench.measured(head, told, reference) for name, told in carried.items()}


def run_leak(experiment: Experiment) -> None:
    """Writes the result after every unit."""
    torch.set_num_threads(1)
    units = []
    for seed in experiment.seeds:
        for kind in KINDS:
            units.append(leak(experiment, kind, seed))
            told = {
                "format": FORMAT,
                "study": experiment.study.name,
                "images": IMAGES,
                "width": WIDTH,
                "share": SHARE,
                "after": AFTER,
                "units": units,
            }
            write_result(experiment.result, told)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 2 if the study or its images are not there."""
    try:
        run_leak(read_experiment(NAME, "core", arguments))
    except LetheonError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
