"""The unit files of a study, parsed once: everything behind this module sees only right values."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from letheon.errors import BadData
from letheon.simulation.report.patients import is_patient_file

FORMAT = "letheon-study-unit/1"  # as letheon.simulation.unit writes it, which needs torch
FIRST, SECOND = "retrain", "retrain_again"
RETRAININGS = (FIRST, SECOND)
Kind = Literal["backdoored", "honest"]
Trigger = Literal["disclosed", "undisclosed"]
Interval = tuple[float, float, float]  # value, lower and upper 95 % bound
NEAREST = 5  # accepted deltas; a look further away than this, or the spacing, is another moment


class _Parsed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Looks(_Parsed):
    """Looks as columns of one length [n], in order. Rates are shares of 1."""

    accepted: tuple[int, ...] = ()  # retained deltas since the request; below 0 in a retraining
    seconds: tuple[float, ...] = ()  # virtual, since the request or the start of the retraining
    accuracy: tuple[float, ...] = ()
    site_accuracy: tuple[tuple[float, ...], ...] = ()  # [n, retained sites]
    disclosed: tuple[float | None, ...] = ()
    undisclosed: tuple[float | None, ...] = ()
    forget_accuracy: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _one_length(self) -> Looks:
        lengths = {name: len(getattr(self, name)) for name in type(self).model_fields}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of the looks differ in length: {lengths}")
        if any(later < earlier for earlier, later in pairwise(self.accepted)):
            raise ValueError("the looks are not in order of accepted deltas")
        return self

    def success(self, trigger: Trigger) -> tuple[float | None, ...]:
        """The column of one probe."""
        return self.disclosed if trigger == "disclosed" else self.undisclosed

    def spacing(self) -> float:
        """Accepted deltas from one look to the next, the median."""
        steps = [later - earlier for earlier, later in pairwise(self.accepted)]
        return max(NEAREST, statistics.median(steps)) if steps else NEAREST

    def nearest(self, accepted: int) -> int | None:
        """Index of the look nearest to so many deltas (ties: the later); None: all too far."""
        if not self.accepted:
            return None
        index = min(
            range(len(self.accepted)),
            key=lambda i: (abs(self.accepted[i] - accepted), -self.accepted[i]),
        )
        return index if abs(self.accepted[index] - accepted) <= self.spacing() else None

    def around(self, accepted: int) -> list[int]:
        """Indices of the looks no farther than one spacing: three where they fall regularly.

        One version differs from the next by a point or two; empty if all are too far.
        """
        reach = self.spacing()
        return [i for i, a in enumerate(self.accepted) if abs(a - accepted) <= reach]

    def within(self, first: int, last: int) -> list[int]:
        """Indices of the looks from `first` to `last` deltas; empty if they end too early."""
        if not self.accepted or self.accepted[-1] < last - self.spacing():
            return []
        return [i for i, accepted in enumerate(self.accepted) if first <= accepted <= last]

    def shifted(self, deltas: int) -> Looks:
        """The same looks, counted from `deltas` later on."""
        return self.model_copy(update={"accepted": tuple(a - deltas for a in self.accepted)})


class Attempt(_Parsed):
    """One attempt of the gate."""

    accepted: int
    seconds: float
    verdict: Literal["pass", "fail", "inconclusive"]
    verified: bool


class Evidence(_Parsed):
    """What the laboratory says of one version."""

    forget_accuracy: float
    loss_auc: Interval
    reference_auc: Interval  # losses calibrated by the second retraining's
    agreement_test: float  # with the first retraining's predictions
    kl_test: float  # nats
    agreement_forget: float
    kl_forget: float
    relearn: tuple[float, ...] = ()  # success of the disclosed probe after 0, 1, ... steps


class Run(_Parsed):
    """A retraining or a method."""

    looks: Looks
    gate: tuple[Attempt, ...] = ()
    moments: dict[str, float | None] = {}  # seconds since the request
    counts: dict[str, int] = {}
    failed: str = ""
    evidence: dict[str, Evidence] = {}  # by retained deltas, "60"


class BeforeLook(_Parsed):
    """The head at the request. Shares of 1."""

    accuracy: float
    disclosed: float | None = None
    undisclosed: float | None = None


class Before(_Parsed):
    """The state that all methods branch from."""

    look: BeforeLook
    retained: int  # deltas of retained sites accepted until the request
    seconds: float
    evidence: Evidence | None = None


class UnitFile(_Parsed):
    """One unit: some images, one kind of target, one seed."""

    format: Literal["letheon-study-unit/1"]
    study: str
    settings: str
    images: str
    kind: Kind
    seed: int
    before: Before | None = None
    runs: dict[str, Run]
    bases: dict[str, str] = {}  # by variant; read from the study's file, not from this one

    @property
    def name(self) -> str:
        """As the file is called."""
        return f"{self.images}-{self.kind}-{self.seed}"

    @property
    def complete(self) -> bool:
        """Whether there is something to compare with."""
        return self.before is not None and FIRST in self.runs

    def methods(self) -> list[str]:
        """Labels of what was run, the retrainings apart."""
        return [label for label in self.runs if label not in RETRAININGS]

    def looks(self, label: str) -> Looks:
        """Counted from the request on; a retraining's from where its budget equals that."""
        run = self.runs.get(label)
        if run is None or self.before is None:
            return Looks()
        return run.looks.shifted(self.before.retained) if label in RETRAININGS else run.looks

    def evidence(self, label: str, moment: int) -> Evidence | None:
        """At so many retained deltas, where it was gathered."""
        run = self.runs.get(label)
        return None if run is None else run.evidence.get(str(moment))


def read_units(folder: Path) -> list[UnitFile]:
    """All unit files of a folder, by images, kind and seed.

    Raises BadData for a file that is no unit file, two of one unit, or units of differing
    settings. Files of patient studies are left aside. A folder without files gives none.
    """
    paths = sorted(folder.glob("*.json"))
    return ordered(_read(path) for path in paths if not is_patient_file(path))


def ordered(units: Iterable[UnitFile]) -> list[UnitFile]:
    """In the one order of all reports. Raises BadData as `read_units`."""
    found = sorted(units, key=lambda unit: (unit.images, unit.kind, unit.seed))
    _check(found)
    return found


def labels_of(units: Sequence[UnitFile]) -> list[str]:
    """Every method of these units, by name."""
    return sorted({label for unit in units for label in unit.methods()})


def _read(path: Path) -> UnitFile:
    try:
        return UnitFile.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"the unit file {path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise BadData(f"the unit file {path}: {key}: {first['msg']}") from error


def _check(units: Sequence[UnitFile]) -> None:
    for one, other in pairwise(units):
        if one.name == other.name:
            raise BadData(f"two unit files hold the unit {one.name}")
        # The digest covers the images, so it is the same within one set of them only.
        same_images = one.images == other.images
        if one.study != other.study or (same_images and one.settings != other.settings):
            raise BadData(
                f"the units {one.name} and {other.name} come from different studies or settings: "
                "a report compares only units of one study with the same settings"
            )
