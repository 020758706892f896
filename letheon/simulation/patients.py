"""One unit of a patient study: subjects at a site that stays, each erased alone.

All subjects are erased from one stored state. They are compared with one retraining of the whole
federation without *all* of them, and with a second one by other seeds: a retraining for each
subject would cost as much as the rest of the study many times over. The other subjects' records
are few, but whoever reads the numbers must know of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from letheon import registry
from letheon.federation.parameters import Vector
from letheon.imaging.records import Indices, Records
from letheon.simulation.central import Central
from letheon.simulation.conduct import conduct
from letheon.simulation.config import RETRAININGS, PatientMethod, StudyConfig
from letheon.simulation.erasure import Erasure, Reduced
from letheon.simulation.federation import Federation, Setting
from letheon.simulation.hospitals import Hospitals
from letheon.simulation.running import train, train_and_erase
from letheon.simulation.sites import TorchTrainer
from letheon.simulation.subjects import Subject, choose, matched, planted, statistic
from letheon.simulation.unit import Report, UnitRun
from letheon.simulation.units import Unit
from letheon.simulation.virtual_time import derived_seed

LOOKS = 5  # of a retraining, around its end: one version differs from the next by a point or two
LOOK_EVERY = 3  # deltas


class PatientRun(UnitRun):
    """A unit of a patient study. Results are those of single subjects, in their order."""

    def __init__(self, study: StudyConfig, unit: Unit, out: Path, data: Path | None) -> None:
        """Reads and deals the images, chooses the subjects. Raises BadData, BadConfig."""
        if study.patients is None:
            raise ValueError("the study has no section [patients]")
        self._told = study.patients
        super().__init__(study, unit, out, data)
        held = self.hospitals.sites[self.hospitals.target]
        truth = replace(held.train, labels=self._true_labels)
        self._subjects = [
            Subject(rows, matched(truth, held.train, held.control, rows, unit.seed + number))
            for number, rows in enumerate(self._rows)
        ]
        self.result["subjects"] = [len(rows) for rows in self._rows]

    def run(self, report: Report = lambda _: None) -> dict[str, Any]:
        """Carries out what is missing; the whole result."""
        before = self._trained_before(report)
        if "statistics" not in self.result["before"]:
            measured = self._measured_all([np.array(before.central.head)])
            self.result["before"] |= {**measured, "evidence": {}}
            self._write()
        for label in RETRAININGS:
            if label not in self.result["runs"]:
                report(label)
                self.result["runs"][label] = self._retrained(label, before)
                self._write()
        for method in self._told.methods:
            if method not in self.result["runs"]:
                report(method)
                self.result["runs"][method] = self._erased(method, before)
                self._write()
        return self.result

    def _dealt(self, records: Records, natural: tuple[str, ...] | None) -> Hospitals:
        hospitals = super()._dealt(records, natural)
        held, seed = hospitals.sites[hospitals.target], self._unit.seed
        self._rows = choose(held.train, self._told.count, self._told.most_share, seed)
        self._true_labels = held.train.labels
        if self._unit.kind != "canary":
            return hospitals
        wrong = replace(held, train=planted(held.train, self._rows, seed))
        return replace(hospitals, sites={**hospitals.sites, hospitals.target: wrong})

    def _without(self, rows: Indices, seed: int | None = None) -> Setting:
        """The federation's setting with a target that leaves rows out."""
        setting, target = self.setting(seed=seed), self.hospitals.target
        records = {name: held.train for name, held in self.hospitals.sites.items()}
        kept = np.setdiff1d(np.arange(len(records[target])), rows)
        reduced = {**records, target: records[target].select(kept)}
        return replace(setting, trainer=TorchTrainer(self.network, reduced))

    def _retrained(self, label: str, before: Federation) -> dict[str, Any]:
        """Without any of the subjects from the start, with the same budget of deltas."""
        seed = self._unit.seed
        drawn = seed if label == RETRAININGS[0] else derived_seed(seed, label)
        initial = self.network.initial(derived_seed(drawn, "initial"))
        setting = self._without(np.concatenate(self._rows), drawn)
        federation = Federation.begin(setting, Central.begin(self.rules(), initial))
        end = before.accepted() + self._told.window
        kept: dict[int, Vector] = {}

        def watch(now: Federation) -> None:
            behind = end - now.accepted()
            if behind % LOOK_EVERY == 0 and 0 <= behind < LOOKS * LOOK_EVERY:
                kept[behind] = np.array(now.central.head)

        train(federation, lambda f: f.accepted() >= end, watch)
        return self._measured_all(list(kept.values()))

    def _measured_all(self, heads: list[Vector]) -> dict[str, Any]:
        """Each subject under the last head; accuracy as the mean over all heads."""
        return {
            "statistics": [self._statistic(heads[-1], subject) for subject in self._subjects],
            "accuracy": round(float(np.mean([self._accuracy(head) for head in heads])), 5),
        }

    def _erased(self, method: PatientMethod, before: Federation) -> dict[str, Any]:
        """One column a number, one row a subject."""
        rows = [self._erase_one(method, before, subject) for subject in self._subjects]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _erase_one(
        self, method: PatientMethod, before: Federation, subject: Subject
    ) -> dict[str, Any]:
        federation, began = before.copy(), before.now
        end = before.accepted() + self._told.window
        setting, target = self._without(subject.rows), self.hospitals.target
        landed: float | None = 0.0
        failed = ""
        match method:
            case "stop_using":
                federation.exclude(target, setting.trainer)
                train(federation, lambda f: f.accepted() >= end, lambda _: None)
            case "readmission":
                _readmit(federation, target, setting)
                train(federation, lambda f: f.accepted() >= end, lambda _: None)
            case "patient_swap":
                erasure = self._swap(federation, setting, end)
                failed, landed = erasure.failed, erasure.landed_at
                landed = None if failed or landed is None else round(landed - began, 3)
        head = federation.central.head
        return {
            "statistics": self._statistic(head, subject),
            "accuracy": self._accuracy(head),
            "landed": landed,
            "failed": failed,
            "deltas": federation.accepted() - before.accepted(),
            "lost": federation.counts.excluded + federation.counts.superseded,
        }

    def _swap(self, federation: Federation, setting: Setting, end: int) -> Erasure:
        target, trainer = self.hospitals.target, setting.trainer

        def recompute(base: Vector, rate: float, seed: int) -> Vector:
            return trainer.delta(target, base, learning_rate=rate, seed=seed)

        erasure = Erasure(
            name="subject",
            site=target,
            method=registry.build(registry.UNLEARNING, "patient_swap", {}),
            workbench=self.workbench(),
            reduced=Reduced(trainer, recompute, self._told.recompute_speed),
        )
        train_and_erase(
            federation,
            [conduct(erasure, federation, derived_seed(self._unit.seed, "erase"))],
            lambda now: now.accepted() >= end and erasure.finished_at is not None,
            lambda _: None,
        )
        return erasure

    def _statistic(self, head: Vector, subject: Subject) -> float:
        train_records = self.hospitals.sites[self.hospitals.target].train
        return round(statistic(self.network, head, train_records, subject), 5)

    def _accuracy(self, head: Vector) -> float:
        return round(self.lens.look(head, accepted=0, seconds=0.0, version=0).accuracy, 5)


def _readmit(federation: Federation, site: str, setting: Setting) -> None:
    """The whole site's contribution is removed, and the site goes on without the records."""
    federation.central.remove(site, federation.now, subtract=True)
    federation.central.fenced.discard(site)
    federation.setting = replace(federation.setting, trainer=setting.trainer)
    federation.supersede()


def run_of(study: StudyConfig) -> Callable[[Unit, Path, Path | None], UnitRun]:
    """How a unit of this study is made: (unit, out, data)."""
    return partial(UnitRun if study.patients is None else PatientRun, study)
