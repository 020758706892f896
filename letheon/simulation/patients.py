"""One unit of a patient study: subjects at a site that stays, each erased alone.

All subjects are erased from one stored state. They are compared with one retraining of the whole
federation without *all* of them, and with a second one by other seeds: a retraining for each
subject would cost as much as the rest of the study many times over. The other subjects' records
are few, but wrong labels of theirs cost accuracy: that is compared with a third retraining, which
lacks one subject only, as what is erased does.
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
from letheon.simulation.subjects import (
    Subject,
    choose,
    matched,
    planted,
    statistic,
    without_rows,
)
from letheon.simulation.unit import Report, UnitRun
from letheon.simulation.units import Unit
from letheon.simulation.virtual_time import derived_seed

#: Of a retraining, at least: accuracy of one version differs from the next by a point or two.
LOOKS = 5
LOOK_EVERY = 3  # deltas between the heads that are measured


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
            measured = self._measured_all([np.array(before.central.head)], self._subjects)
            self.result["before"] |= {**measured, "evidence": {}}
            self._write()
        for label in RETRAININGS:
            if label not in self.result["runs"]:
                report(label)
                self.result["runs"][label] = self._retrained(label, before, self._subjects)
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
        reduced = {**records, target: without_rows(records[target], rows)[0]}
        return replace(setting, trainer=TorchTrainer(self.network, reduced))

    def _retrained(self, label: str, before: Federation, subjects: list[Subject]) -> dict[str, Any]:
        """Without these subjects from the start, with the same budget of deltas."""
        seed = self._unit.seed
        drawn = derived_seed(seed, label) if label == RETRAININGS[1] else seed
        initial = self.network.initial(derived_seed(drawn, "initial"))
        setting = self._without(np.concatenate([subject.rows for subject in subjects]), drawn)
        federation = Federation.begin(setting, Central.begin(self.rules(), initial))
        end = before.accepted() + self._told.window
        heads = LastHeads(end, max(self._looks, LOOKS))
        train(federation, lambda f: f.accepted() >= end, heads.watch)
        return self._measured_all(heads.since(0.0), subjects)

    def _untouched(self, before: Federation) -> dict[str, Any]:
        """The federation goes on with all records, for the window: the control of every method."""
        federation = before.copy()
        end = before.accepted() + self._told.window
        heads = LastHeads(end, max(self._looks, LOOKS))
        train(federation, lambda f: f.accepted() >= end, heads.watch)
        return self._measured_all(heads.since(0.0), self._subjects)

    def _measured_all(self, heads: list[Vector], subjects: list[Subject]) -> dict[str, Any]:
        """Each subject under the last heads; accuracy as the mean over all heads."""
        last = heads[-self._looks :]
        return {
            "statistics": [self._statistic(last, subject) for subject in subjects],
            "accuracy": self._accuracy(heads),
        }

    def _erased(self, method: PatientMethod, before: Federation) -> dict[str, Any]:
        """One column a number, one row a subject; of one model for all one accuracy."""
        match method:
            case "do_nothing":
                return self._untouched(before)
            case "retrain_one":
                return self._retrained(method, before, self._subjects[:1])
        numbers = range(len(self._subjects))
        rows = [self._known(method, n) or self._erase_one(method, before, n) for n in numbers]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _known(self, method: PatientMethod, number: int) -> dict[str, Any] | None:
        """The row of an exchange alone, where other rows are the same run: it is not made again.

        Until an exchange is refused the two methods do the same; then the one alone only no
        longer uses the records. A refusal behind the window, which would be measured later, is
        run.
        """
        served, stopped = (
            self._row(m, number) for m in ("exchange_else_readmission", "stop_using")
        )
        if method != "patient_swap" or served is None:
            return None
        if not served["readmitted"]:
            return served
        if stopped is None or served["deltas"] > stopped["deltas"]:
            return None
        return {**stopped, "landed": None, "failed": served["readmitted"]}

    def _row(self, method: PatientMethod, number: int) -> dict[str, Any] | None:
        run = self.result["runs"].get(method)
        return None if run is None else {key: column[number] for key, column in run.items()}

    def _erase_one(self, method: PatientMethod, before: Federation, number: int) -> dict[str, Any]:
        subject, federation, began = self._subjects[number], before.copy(), before.now
        end = before.accepted() + self._told.window
        setting, target = self._without(subject.rows), self.hospitals.target
        heads = LastHeads(end, self._looks)
        landed: float | None = began
        failed = readmitted = ""
        match method:
            case "stop_using":
                federation.exclude(target, setting.trainer)
                train(federation, lambda f: f.accepted() >= end, heads.watch)
            case "readmission":
                federation.setting = replace(federation.setting, trainer=setting.trainer)
                federation.readmit(target)
                train(federation, lambda f: f.accepted() >= end, heads.watch)
            case _:
                readmits = method == "exchange_else_readmission"
                erasure = self._exchange(federation, setting, subject.rows, heads, readmits)
                failed, readmitted = erasure.failed, erasure.readmitted
                landed = None if failed else erasure.landed_at
        last = heads.since(began if landed is None else landed)
        return {
            "statistics": self._statistic(last, subject),
            "accuracy": self._accuracy(last),
            "landed": None if landed is None else round(landed - began, 3),
            "failed": failed,
            "readmitted": readmitted,
            "deltas": federation.accepted() - before.accepted(),
            "lost": federation.counts.excluded + federation.counts.superseded,
        }

    def _exchange(
        self,
        federation: Federation,
        setting: Setting,
        rows: Indices,
        heads: LastHeads,
        readmits: bool,
    ) -> Erasure:
        target, trainer = self.hospitals.target, setting.trainer
        left, places = without_rows(self.hospitals.sites[target].train, rows)
        again = TorchTrainer(self.network, {})

        def recompute(base: Vector, rate: float, seed: int) -> Vector:
            return again.delta_on(left, base, learning_rate=rate, seed=seed, places=places)

        erasure = Erasure(
            name="subject",
            site=target,
            method=registry.build(registry.UNLEARNING, "patient_swap", {"readmits": readmits}),
            workbench=self.workbench(),
            reduced=Reduced(trainer, recompute, self._told.recompute_speed),
        )
        train_and_erase(
            federation,
            [conduct(erasure, federation, derived_seed(self._unit.seed, "erase"))],
            lambda now: now.accepted() >= heads.end and erasure.finished_at is not None,
            heads.watch,
        )
        return erasure

    @property
    def _looks(self) -> int:
        return self._told.looks or 1

    def _statistic(self, heads: list[Vector], subject: Subject) -> float:
        records = self.hospitals.sites[self.hospitals.target].train
        each = [statistic(self.network, head, records, subject) for head in heads]
        return round(float(np.mean(each)), 5)

    def _accuracy(self, heads: list[Vector]) -> float:
        looks = [self.lens.look(head, accepted=0, seconds=0.0, version=0) for head in heads]
        return round(float(np.mean([look.accuracy for look in looks])), 5)


class LastHeads:
    """The last so many heads, some deltas apart: what is measured at a run's end."""

    def __init__(self, end: int, looks: int) -> None:
        self.end = end  # accepted deltas at which a run ends, or later
        self._looks = looks
        self._kept: dict[int, tuple[float, Vector]] = {}  # by accepted deltas: (virtual time, [d])

    def watch(self, now: Federation) -> None:
        """To be called after every event: of one count the last head is kept."""
        accepted = now.accepted()
        if (accepted - self.end) % LOOK_EVERY == 0 or accepted > self.end:
            self._kept[accepted] = (now.now, np.array(now.central.head))
        for old in sorted(self._kept)[: -self._looks]:
            del self._kept[old]

    def since(self, seconds: float) -> list[Vector]:
        """Those of that virtual second or later, oldest first; at least the newest."""
        pairs = [self._kept[count] for count in sorted(self._kept)]
        return [head for at, head in pairs if at >= seconds] or [pairs[-1][1]]


def run_of(study: StudyConfig) -> Callable[[Unit, Path, Path | None], UnitRun]:
    """How a unit of this study is made: (unit, out, data)."""
    return partial(UnitRun if study.patients is None else PatientRun, study)
