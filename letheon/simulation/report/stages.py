"""What was planned, so that the report can say what was not run."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from letheon.errors import BadConfig
from letheon.simulation.config import TRAINING, StudyConfig, load_study
from letheon.simulation.report.patients import PatientUnit
from letheon.simulation.report.unit_file import UnitFile
from letheon.simulation.units import Unit, branches_of


class Stage(BaseModel):
    """One study that belongs to the evidence, run or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str = Field(pattern=r"^[a-z0-9-]+$")
    what: str  # a phrase
    why_not: str = ""  # the reason, if it was not run or not in full


class _Stages(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[Stage, ...] = ()


def load_stages(path: Path) -> tuple[Stage, ...]:
    """None declared where there is no file. Raises BadConfig for a bad one."""
    if not path.is_file():
        return ()
    try:
        return _Stages.model_validate(tomllib.loads(path.read_text())).stages
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"the stages {path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise BadConfig(f"the stages {path}: {key}: {first['msg']}") from error


def not_run(stage: Stage, units: Sequence[UnitFile | PatientUnit], study_file: Path) -> list[str]:
    """Sentences on what is missing of one stage; none if it is whole."""
    why = f" {stage.why_not}" if stage.why_not else ""
    if not units:
        return [f"**{stage.study}** ({stage.what}): not run.{why}"]
    if not study_file.is_file():
        return [f"**{stage.study}** ({stage.what}): its configuration is missing.{why}"]
    missing = _missing(load_study(study_file), units)
    if not missing:
        return []
    return [f"**{stage.study}** ({stage.what}): missing are {'; '.join(missing)}.{why}"]


def _missing(study: StudyConfig, units: Sequence[UnitFile | PatientUnit]) -> list[str]:
    runs = {(unit.images, unit.kind, unit.seed): set(unit.runs) for unit in units}
    told = []
    for images in study.images:
        for kind in study.kinds:
            for seed in study.seeds:
                wanted = set(branches_of(study, Unit(images, kind, seed))) - {TRAINING}
                lacking = wanted - runs.get((images.name, kind, seed), set())
                if lacking == wanted:
                    told.append(f"{images.name}, {kind}, seed {seed}")
                elif lacking:
                    told.append(f"{images.name}, {kind}, seed {seed}: {', '.join(sorted(lacking))}")
    return told
