"""What a study consists of, and what its folder says is done. Needs no network library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.simulation.config import RETRAININGS, TRAINING, Kind, StudyConfig
from letheon.simulation.images import ImagesConfig

FORMAT = "letheon-study-unit/1"
PATIENTS_FORMAT = "letheon-study-patients/1"


@dataclass(frozen=True)
class Unit:
    """What distinguishes a unit within its study."""

    images: ImagesConfig
    kind: Kind
    seed: int

    @property
    def name(self) -> str:
        """File name without its ending."""
        return f"{self.images.name}-{self.kind}-{self.seed}"


def units_of(study: StudyConfig) -> list[Unit]:
    """All units, seed by seed, so that a study stopped early has whole seeds."""
    return [
        Unit(images, kind, seed)
        for seed in study.seeds
        for images in study.images
        for kind in study.kinds
    ]


def branches_of(study: StudyConfig, unit: Unit) -> tuple[str, ...]:
    """Labels of what a unit carries out, in order."""
    if study.patients is not None:
        return (TRAINING, *RETRAININGS, *study.patients.methods)
    methods = (method.label for method in study.methods if unit.kind in method.kinds)
    return (TRAINING, *RETRAININGS, *methods)


def format_of(study: StudyConfig) -> str:
    """Of the study's unit files."""
    return FORMAT if study.patients is None else PATIENTS_FORMAT


def state_folder(out: Path, unit: Unit) -> Path:
    """Where a unit keeps what it needs to go on; the results are in `{out}/{unit.name}.json`."""
    return out / "state" / unit.name


def done_of(study: StudyConfig, unit: Unit, out: Path) -> tuple[str, ...]:
    """Labels of the branches whose results the folder holds, of these settings."""
    told = _kept(out / f"{unit.name}.json")
    if told.get("format") != format_of(study) or told.get("settings") != study.digest(unit.images):
        return ()
    done = {TRAINING} if "before" in told else set()
    done |= set(told.get("runs", ()))
    # The evidence of both retrainings is gathered once both are there.
    if "evidence" not in told.get("before", {}):
        done -= {RETRAININGS[1]}
    return tuple(label for label in branches_of(study, unit) if label in done)


def _kept(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
