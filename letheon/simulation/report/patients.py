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
ACCURACY_BAR = 0.5  # points below retraining
RESAMPLES = 2000
INTRODUCTION = """\
Subjects of one site that stays, each erased alone from the same state. *Statistic*: the chance that
a control record of the same class, under the label the subject's record is trained with, has the
larger loss; 0.5 for records never trained on, 1 for records known by heart. Intervals (95 %)
resample subjects. Canary subjects have only wrong labels; honest ones are as they are, and the
statistic hardly sees them. *Retrained* is one retraining of the whole federation without all of the
subjects of the unit, its *floor* the same with other seeds; methods leave out one subject each.
Forgotten: within 0.05 of retraining and inside its interval, if the model before could be told from
retraining (else *inconclusive*). Where `stop_using` meets that bar as well, the subjects were too
few or too little memorised for it to say anything of the others. A subject whose patch was
refused (*gave up*) is counted as it then is. Accuracy: at most 0.5 points below retraining.
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
    before, retrained = pooled(units, "before"), pooled(units, "retrain")
    labels = sorted({label for unit in units for label in unit.runs} - {"retrain"})
    rows = [_row("before", before, retrained, NOTHING, NOTHING)]
    rows.append(_row("retrain", retrained, retrained, NOTHING, NOTHING))
    for label in ["retrain_again", *(each for each in labels if each != "retrain_again")]:
        having = [unit for unit in units if label in unit.runs]
        if not having:
            continue
        own = pooled(having, label)
        beside, control = pooled(having, "retrain"), pooled(having, "before")
        told = forgotten(own, beside, control), accuracy_kept(own, beside)
        rows.append(_row(label, own, beside, *told, *_facts(having, label)))
    columns = ["model", "n", "statistic (95 %)", "gap", "accuracy, % (gap)", "forgotten",
               "accuracy", "landed, s", "gave up"]  # fmt: skip
    return f"{title}\n{table(columns, rows)}"


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


def accuracy_kept(own: Pooled, retrained: Pooled) -> str:
    """`met` or `missed`."""
    return "met" if own.accuracy >= retrained.accuracy - ACCURACY_BAR else "missed"


def _facts(units: Sequence[PatientUnit], label: str) -> tuple[str, str]:
    runs = [unit.runs[label] for unit in units]
    seconds = [value for run in runs for value in run.landed if value is not None]
    failed = sum(bool(sentence) for run in runs for sentence in run.failed)
    return number(float(np.mean(seconds)) if seconds else None), str(failed)


def _row(
    label: str,
    own: Pooled,
    retrained: Pooled,
    told: str,
    kept: str,
    landed: str = NOTHING,
    failed: str = NOTHING,
) -> list[str]:
    low, high = own.interval()
    gap = number(own.mean - retrained.mean, 3, signed=True)
    points = number(own.accuracy - retrained.accuracy, 1, signed=True)
    return [
        label,
        str(own.values.size),
        f"{own.mean:.3f} ({low:.3f} to {high:.3f})",
        gap,
        f"{own.accuracy:.1f} ({points})",
        told,
        kept,
        landed,
        failed,
    ]
