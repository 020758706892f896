"""One unit of a study: some images, one kind of target, one seed, every method.

The state before the erasure is trained once and stored; two retrainings without the target and
every method branch from the same beginnings. Results are one JSON file, written after each
branch, so that a unit that was stopped goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from letheon.federation.parameters import Vector
from letheon.federation.plan import PlanDraft
from letheon.simulation.branch import Branch, run_branch
from letheon.simulation.central import Central, Rules
from letheon.simulation.config import RETRAININGS, TRAINING, MethodConfig, StudyConfig
from letheon.simulation.evidence_at import Laboratory
from letheon.simulation.federation import Federation, Setting
from letheon.simulation.hospitals import Hospitals, Planting, deal
from letheon.simulation.images import find_file, load_images
from letheon.simulation.measure import Lens, Look
from letheon.simulation.running import train
from letheon.simulation.saved_state import load_state, save_state
from letheon.simulation.sites import Network, SiteRecords, TorchTrainer
from letheon.simulation.timing import partition_of, times_of, wait_cut_off
from letheon.simulation.unit_store import UnitStore
from letheon.simulation.units import Unit, format_of, state_folder
from letheon.simulation.virtual_time import derived_seed
from letheon.simulation.workbench import Workbench

Report = Callable[[str], None]


class UnitRun:
    """A unit with everything it needs in memory."""

    def __init__(self, study: StudyConfig, unit: Unit, out: Path, data: Path | None) -> None:
        """Reads and deals the images. Raises BadData, BadConfig."""
        self._study, self._unit = study, unit
        self._store = UnitStore(out / f"{unit.name}.json", state_folder(out, unit))
        records, natural = load_images(
            unit.images, find_file(unit.images, data), seed=derived_seed(unit.seed, "images")
        )
        self.plan: PlanDraft = study.plan.draft(study.name, records)
        self.hospitals = self._dealt(records, natural)
        self.network = Network.of(self.plan)
        self.lens = Lens(self.network, self.hospitals, unit.seed)
        self._laboratory = Laboratory(self.network, self.hospitals, self.lens, unit.seed)
        self.result = self._begun()

    def run(self, report: Report = lambda _: None) -> dict[str, Any]:
        """Carries out what is missing; the whole result."""
        before = self._trained_before(report)
        for label in RETRAININGS:
            if label not in self.result["runs"] or not self._store.has(label):
                report(label)
                self._retrain(label, before)
        self._evidence_of_references(before)
        for method in self._study.methods:
            if self._unit.kind in method.kinds and method.label not in self.result["runs"]:
                report(method.label)
                self._erase(method, before)
        return self.result

    def missing(self) -> list[str]:
        """Labels of the branches still to run."""
        methods = [m.label for m in self._study.methods if self._unit.kind in m.kinds]
        return [label for label in (*RETRAININGS, *methods) if label not in self.result["runs"]]

    def workbench(self, site: str | None = None) -> Workbench:
        """What methods work with to erase a site; the target unless told otherwise."""
        return Workbench(
            self.network,
            erased=self.hospitals.sites[site or self.hospitals.target].train,
            calibration=self.hospitals.calibration,
            audit=self.hospitals.audit,
            disclosed=self.hospitals.planted.disclosed,
        )

    def rules(self, *, refuse_old_epochs: bool = True) -> Rules:
        """The coordinator's rules."""
        strategy = self.plan.build_strategy()
        return Rules(self.plan, self.network.layout, strategy, refuse_old_epochs)

    def setting(self, *, without_target: bool = False, seed: int | None = None) -> Setting:
        """Sites and their paces. Another seed gives another order of batches and other times."""
        drawn = self._unit.seed if seed is None else seed
        hospitals = self.hospitals
        sites = hospitals.retained() if without_target else tuple(hospitals.sites)
        records = {name: held.train for name, held in hospitals.sites.items()}
        return Setting(
            sites=sites,
            trainer=TorchTrainer(self.network, records),
            times=times_of(self._study.times, hospitals, self._unit.seed, drawn),
            seed=derived_seed(drawn, "federation"),
        )

    def _dealt(self, records: Any, natural: tuple[str, ...] | None) -> Hospitals:  # noqa: ANN401
        study, planting = self._study, self._study.planting
        planted = Planting(**planting.model_dump()) if self._unit.kind == "backdoored" else None
        hospitals = deal(
            records,
            natural,
            sites=study.sites,
            alpha=study.alpha,
            target_share=study.target_share,
            planting=planted,
            seed=self._unit.seed,
        )
        if study.second_request_after is not None:
            hospitals = hospitals.with_second(self._unit.seed)
        if study.measured_on == "test":
            return hospitals
        return replace(hospitals, sites={n: _on_validation(h) for n, h in hospitals.sites.items()})

    def _begun(self) -> dict[str, Any]:
        kept = self._store.results()
        made_with = format_of(self._study), self._study.digest(self._unit.images)
        if kept is not None and (kept.get("format"), kept.get("settings")) == made_with:
            return kept
        hospitals = self.hospitals
        second = {} if hospitals.second is None else {"second": hospitals.second}
        return {
            **second,
            "format": format_of(self._study),
            "study": self._study.name,
            "settings": self._study.digest(self._unit.images),
            "images": self._unit.images.name,
            "kind": self._unit.kind,
            "seed": self._unit.seed,
            "target": hospitals.target,
            "target_class": hospitals.planted.target_class,
            "classes": self.plan.classes,
            "parameters": self.network.layout.size,
            "records": {name: len(held.train) for name, held in hospitals.sites.items()},
            "controls": len(hospitals.sites[hospitals.target].control),
            "runs": {},
        }

    def _trained_before(self, report: Report) -> Federation:
        path = self._store.before
        if path.is_file() and "before" in self.result:
            return self._restored(path)
        report(TRAINING)
        before = self._unit.images.before or self._study.before
        initial = self.network.initial(derived_seed(self._unit.seed, "initial"))
        federation = Federation.begin(self.setting(), Central.begin(self.rules(), initial))
        train(federation, lambda f: f.accepted() >= before, lambda _: None)
        wait_cut_off(federation, self._study, self.hospitals, self._unit.seed)
        save_state(path, federation)
        target = self.hospitals.target
        look = self.lens.look(federation.central.head, accepted=0, seconds=0.0, version=-1)
        self.result["before"] = {
            "look": look.to_json(),
            "seconds": round(federation.now, 3),
            "retained": federation.accepted(without=self.hospitals.erased),
            "targets": federation.counts.merged.get(target, 0),
        }
        self._write()
        # Read back: a unit taken up again must go on from the same bits.
        return self._restored(path)

    def _restored(self, path: Path) -> Federation:
        federation = load_state(path, self.setting(), self.rules())
        partition = partition_of(self._study, self.hospitals, self._unit.seed, federation.now)
        federation.setting = replace(federation.setting, partition=partition)
        return federation

    def _retrain(self, label: str, before: Federation) -> None:
        """Asynchronous, the same budget of retained deltas, without the target from the start."""
        other = None if label == RETRAININGS[0] else derived_seed(self._unit.seed, label)
        initial = self.network.initial(
            derived_seed(self._unit.seed if other is None else other, "initial")
        )
        setting = self.setting(without_target=True, seed=other)
        federation = Federation.begin(setting, Central.begin(self.rules(), initial))
        offset = before.accepted(without=self.hospitals.erased)
        study, kind = self._study, self._unit.kind
        due = {offset + count: count for count in study.moments(kind)}
        looks: list[Look] = []
        kept: dict[str, Vector] = {}

        def watch(now: Federation) -> None:
            accepted = now.accepted()
            if accepted in due and str(due[accepted]) not in kept:
                kept[str(due[accepted])] = np.array(now.central.head)
            if accepted % study.look_every == 0 and (not looks or looks[-1].accepted < accepted):
                looks.append(
                    self.lens.look(
                        now.central.head,
                        accepted=accepted,
                        seconds=now.now,
                        version=now.central.version,
                    )
                )

        train(federation, lambda f: f.accepted() >= offset + study.window(kind), watch)
        self._store.keep(label, kept)
        self.result["runs"][label] = {"looks": _columns(looks)}
        self._write()

    def _evidence_of_references(self, before: Federation) -> None:
        """Of both retrainings (each beside the other), and of the head before the erasure."""
        first, second = (self._store.kept(label) for label in RETRAININGS)
        runs, lab = self.result["runs"], self._laboratory
        if "evidence" not in self.result["before"]:
            moment = str(self._study.snapshots[0])
            self.result["before"]["evidence"] = lab.evidence(
                before.central.head, first[moment], second[moment]
            )
            for label, own, beside in zip(
                RETRAININGS, (first, second), (second, first), strict=True
            ):
                runs[label]["evidence"] = {
                    moment: lab.evidence(own[moment], beside[moment], beside[moment])
                    for moment in own
                }
            self._write()

    def _erase(self, method: MethodConfig, before: Federation) -> None:
        first, second = (self._store.kept(label) for label in RETRAININGS)
        branch: Branch = run_branch(
            self,
            before,
            method,
            study=self._study,
            kind=self._unit.kind,
            seed=derived_seed(self._unit.seed, "erase"),
        )
        self._store.keep(method.label, branch.kept)
        self.result["runs"][method.label] = {
            "looks": _columns(branch.looks),
            "gate": [asdict(attempt) for attempt in branch.attempts],
            "moments": branch.moments,
            "counts": branch.counts,
            "failed": branch.failed,
            "evidence": {
                moment: self._laboratory.evidence(weights, first[moment], second[moment])
                for moment, weights in branch.kept.items()
            },
        }
        self._write()

    def _write(self) -> None:
        self._store.write(self.result)


def _columns(looks: list[Look]) -> dict[str, list[Any]]:
    """One list per number: a third of the size of one object per look."""
    rows = [look.to_json() for look in looks]
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}


def _on_validation(held: SiteRecords) -> SiteRecords:
    """Measured on half of the records that training never sees, for choosing settings."""
    return replace(held, test=held.validation)
