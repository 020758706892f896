"""The patient study as a section: subjects pooled over seeds, verdicts against retraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from letheon.errors import BadData
from letheon.simulation.report.markdown import NOTHING, number, table

FORMAT = "letheon-study-patients/1"
FORGET_BAR = 0.05  # of the statistic against retraining
ACCURACY_BAR = 1.0  # points below retraining
RESAMPLES = 2000
ONE = "retrain_one"  # lacks one subject, as what is erased does
FIRST = ("retrain_again", ONE, "do_nothing", "exchange_else_readmission")  # rows, in this order
INTRODUCTION = """\
Subjects of one site that stays, each erased alone from the same state. *Statistic*: the chance that
a control record of the same class, under the label the subject's record is trained with, has the
larger loss; 0.5 for records never trained on, 1 for records known by heart. Intervals (95 %)
resample subjects. Canary subjects have only wrong labels; honest ones are as they are, and the
statistic hardly sees them. `retrain` is one retraining of the whole federation without all of the
subjects of the unit, `retrain_again` the same with other seeds: the floor. Methods leave out one
subject each, and so does `retrain_one`, with which accuracy is compared (where it was run; else
with `retrain`): wrong labels of the other subjects cost accuracy. `do_nothing` is the control, the
federation goes on with all records. `exchange_else_readmission` is what the services do;
`patient_swap` is the exchange alone, and a subject whose patch was refused (*gave up*) is counted
as it then is. Forgotten: within 0.05 of retraining and inside its interval, if the model before
could be told from retraining (else *inconclusive*). Where `stop_using` meets that bar as well, the
subjects were too few or too little memorised for it to say anything of the others. Accuracy: at
most one point below retraining, if two retrainings differ by no more than that (else
*inconclusive*).
"""

Floats = npt.NDArray[np.float64]


class _Parsed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Measured(_Parsed):
    """One model of all subjects, or one model a subject."""

    statistics: tuple[float, ...]
    accuracy: float | tuple[float, ...]  # shares of 1
    landed: tuple[float | None, ...] = ()  # virtual seconds since the request
    failed: tuple[str, ...] = ()
    readmitted: tuple[str, ...] = ()  # why, or nothing


class PatientUnit(_Parsed):
    """One unit of a patient study."""

    format: Literal["letheon-study-patients/1"]
    study: str
    settings: str
    images: str
    kind: str
    seed: int
    subjects: tuple[int, ...]  # records of each
    before: Measured
    runs: dict[str, Measured]


@dataclass(frozen=True)
class Pooled:
    """One model's subjects over the seeds, with a bootstrap interval by subject."""

    values: Floats  # [subjects]
    accuracy: float  # points

    @property
    def mean(self) -> float:
        """Of the statistic."""
        return float(self.values.mean())

    def interval(self) -> tuple[float, float]:
        """95 % by subject."""
        return interval(self.values)


def interval(values: Floats) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, always the same for the same values."""
    drawn = np.random.default_rng(0).integers(0, values.size, (RESAMPLES, values.size))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def is_patient_file(path: Path) -> bool:
    """Whether a unit file is one of a patient study."""
    try:
        return f'"format":"{FORMAT}"' in path.read_text(errors="replace")
    except OSError:
        return False  # whoever reads it next says what is wrong


def read_patients(folder: Path) -> list[PatientUnit]:
    """The finished units of patient studies in a folder. Raises BadData for a damaged file."""
    units = []
    for path in sorted(folder.glob("*.json")):
        if not is_patient_file(path):
            continue
        try:
            units.append(PatientUnit.model_validate_json(path.read_text()))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise BadData(f"the unit file {path}: {key}: {first['msg']}") from error
    if len({unit.settings for unit in units if unit.images == units[0].images}) > 1:
        raise BadData(f"{folder} holds patient units of different settings")
    return units


def section(study: str, units: Sequence[PatientUnit]) -> str:
    """`One patient`: a table for each of the images and each kind of subject."""
    parts = [f"## One patient (study `{study}`)\n", INTRODUCTION]
    for images, kind in sorted({(unit.images, unit.kind) for unit in units}):
        mine = [u for u in units if (u.images, u.kind) == (images, kind) and "retrain" in u.runs]
        if mine:
            parts.append(_group(images, kind, mine))
    return "\n".join(parts)


def _group(images: str, kind: str, units: Sequence[PatientUnit]) -> str:
    seeds = ", ".join(str(unit.seed) for unit in units)
    sizes = [size for unit in units for size in unit.subjects]
    title = (
        f"### {images}, {kind} subjects: {len(sizes)} of {min(sizes)} to {max(sizes)} records "
        f"(seeds {seeds})\n"
    )
    rows = [_model("before", units), _model("retrain", units)]
    labels = {label for unit in units for label in unit.runs} - {"retrain", *FIRST}
    for label in (*FIRST, *sorted(labels)):
        having = [unit for unit in units if label in unit.runs]
        if having:
            rows.append(_one(having) if label == ONE else _model(label, having))
    columns = ["model", "n", "statistic (95 %)", "gap", "accuracy, % (gap)", "forgotten",
               "accuracy", "landed, s", "gave up", "readmitted"]  # fmt: skip
    return f"{title}\n{table(columns, rows)}"


def _model(label: str, units: Sequence[PatientUnit]) -> list[str]:
    own, retrained, before = (pooled(units, each) for each in (label, "retrain", "before"))
    low, high = own.interval()
    reference = _reference(units)
    judged = label not in ("before", "retrain")
    return [
        label,
        str(own.values.size),
        f"{own.mean:.3f} ({low:.3f} to {high:.3f})",
        number(own.mean - retrained.mean, 3, signed=True),
        _points(own, reference),
        forgotten(own, retrained, before) if judged else NOTHING,
        accuracy_kept(own, reference, _floor(units)) if judged else NOTHING,
        *_facts(units, label),
    ]


def _one(units: Sequence[PatientUnit]) -> list[str]:
    """Of the retraining without one subject there is accuracy, and hardly a statistic."""
    own = pooled(units, ONE)
    return [ONE, str(own.values.size), NOTHING, NOTHING, _points(own, own), *[NOTHING] * 5]


def _reference(units: Sequence[PatientUnit]) -> Pooled:
    return pooled(units, ONE if all(ONE in unit.runs for unit in units) else "retrain")


def _floor(units: Sequence[PatientUnit]) -> float:
    """Points of accuracy between two retrainings of the same records; 0 without a second one."""
    if not all("retrain_again" in unit.runs for unit in units):
        return 0.0
    return abs(pooled(units, "retrain_again").accuracy - pooled(units, "retrain").accuracy)


def _points(own: Pooled, reference: Pooled) -> str:
    return f"{own.accuracy:.1f} ({number(own.accuracy - reference.accuracy, 1, signed=True)})"


def pooled(units: Sequence[PatientUnit], label: str) -> Pooled:
    """Subjects of all units, in order of units; accuracy as the mean over units."""
    found = [unit.before if label == "before" else unit.runs[label] for unit in units]
    accuracy = np.mean([np.mean(each.accuracy) for each in found])
    values = np.concatenate([np.array(each.statistics, np.float64) for each in found])
    return Pooled(values, 100.0 * float(accuracy))


def forgotten(own: Pooled, retrained: Pooled, before: Pooled) -> str:
    """`met`, `missed`, or `inconclusive` where the positive control did not fire."""
    low, high = retrained.interval()
    near = abs(own.mean - retrained.mean) <= FORGET_BAR and low <= own.mean <= high
    seen, _ = interval(before.values - retrained.values)
    if seen <= 0:
        return f"inconclusive ({'within' if near else 'outside'})"
    return "met" if near else "missed"


def accuracy_kept(own: Pooled, retrained: Pooled, floor: float) -> str:
    """`met` or `missed`; `inconclusive` where two retrainings differ by more than the bar."""
    kept = own.accuracy >= retrained.accuracy - ACCURACY_BAR
    if floor > ACCURACY_BAR:
        return f"inconclusive ({'within' if kept else 'outside'})"
    return "met" if kept else "missed"


def _facts(units: Sequence[PatientUnit], label: str) -> tuple[str, str, str]:
    """When the patches landed, on average, and how many were given up or readmitted instead."""
    runs = [unit.before if label == "before" else unit.runs[label] for unit in units]
    if not any(run.landed for run in runs):
        return NOTHING, NOTHING, NOTHING
    seconds = [value for run in runs for value in run.landed if value is not None]
    failed = sum(bool(sentence) for run in runs for sentence in run.failed)
    readmitted = sum(bool(sentence) for run in runs for sentence in run.readmitted)
    mean = number(float(np.mean(seconds)) if seconds else None)
    return mean, str(failed), str(readmitted)
