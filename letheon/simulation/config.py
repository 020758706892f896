"""The study as a TOML file. `letheon simulate --config study.toml` runs it.

name = "core"
seeds = [0, 1, 2, 3, 4]
kinds = ["backdoored", "honest"]

[[images]]
name = "pneumonia"
file = "pneumoniamnist/pneumoniamnist.npz"

[[methods]]
label = "removal"
method = "removal"
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from letheon.errors import BadConfig
from letheon.federation.plan import Erasure as ErasureLimits
from letheon.federation.plan import Gate, Image, PlanDraft, Plugin, Training
from letheon.imaging.records import Records
from letheon.simulation.images import ImagesConfig
from letheon.simulation.virtual_time import Distribution

Kind = Literal["backdoored", "honest", "canary"]
PatientMethod = Literal[
    "retrain_one",
    "do_nothing",
    "stop_using",
    "readmission",
    "exchange_else_readmission",
    "patient_swap",
]
Count = Annotated[int, Field(ge=1, strict=True)]


TRAINING = "training"  # the branch that all others begin at
RETRAININGS = ("retrain", "retrain_again")  # the references
_LATER = ("second_request_after", "partition", "patients")
_FIRST_PATIENT_METHODS = ["stop_using", "patient_swap", "readmission"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodConfig(_Section):
    """One row of the tables: a method with its arguments."""

    label: str = Field(min_length=1, pattern=r"^[a-z0-9_]+$")
    method: str  # entry point of letheon.unlearning
    arguments: dict[str, JsonValue] = {}
    calibrate: bool = False
    overwrites: bool = False  # as published: no epoch begins, the head is written over
    kinds: tuple[Kind, ...] = ("backdoored", "honest")
    guard: float | None = None  # strength of a guard along C_T; none: off
    guard_time_to_live: Count = 40  # versions
    refuse_old_epochs: bool = True  # false: an ablation
    subtracted_share: float = Field(default=1.0, gt=0, le=1)  # below 1: an ablation
    variant_of: str | None = None  # label of the method that this one changes one thing of


class TimesConfig(_Section):
    """How long local training takes, in virtual seconds."""

    target: float = Field(default=2.0, gt=0)
    others: tuple[float, ...] = (1.0, 1.5, 3.0, 10.0)  # dealt to the other sites by the seed
    distribution: Distribution = "lognormal"
    spread: float = Field(default=0.1, ge=0)
    shape: float = Field(default=1.5, gt=0)
    drop_out: float = Field(default=0.0, ge=0, lt=1)


class PlantingConfig(_Section):
    """Shares of the target's records."""

    disclosed: float = Field(default=0.5, ge=0, le=1)
    undisclosed: float = Field(default=0.25, ge=0, le=1)
    canaries: float = Field(default=0.03, ge=0, le=0.5)

    @model_validator(mode="after")
    def _leave_room(self) -> PlantingConfig:
        if self.disclosed + self.undisclosed > 1:
            raise ValueError("disclosed and undisclosed together are at most 1")
        return self


class PartitionConfig(_Section):
    """Retained sites that are cut off around the request. Virtual seconds from the request."""

    start: float = -10.0
    end: float = Field(default=30.0, gt=0)
    sites: Count = 2  # of the retained ones, drawn by the seed

    @model_validator(mode="after")
    def _last(self) -> PartitionConfig:
        if self.start >= self.end:
            raise ValueError("a partition ends after its start")
        return self


class PatientsConfig(_Section):
    """Subjects at a site that stays, each erased alone from the same stored state."""

    count: Count = 20  # subjects of a unit, at most
    most_share: float = Field(default=0.3, gt=0, lt=1)  # of the target's records, all together
    methods: tuple[PatientMethod, ...] = get_args(PatientMethod)
    window: Count = 45  # accepted deltas of all sites from the request on
    looks: Count | None = None  # heads that are measured, and their mean taken; none: the last
    recompute_speed: float = Field(default=1.0, gt=0)  # 1: past trainings last as long as they did


class PlanConfig(_Section):
    """The plan of the simulated federation; image and classes come from the data."""

    model: Plugin = Plugin(plugin="small_cnn", arguments={"width": 8})
    training: Training = Training()
    strategy: Plugin = Plugin(plugin="fedasync")
    gate: Gate = Gate()
    erasure: ErasureLimits = ErasureLimits()
    encoding: Literal["float32", "float16", "bfloat16", "int8"] = "float32"

    def draft(self, name: str, records: Records) -> PlanDraft:
        """The plan for some records. Raises BadConfig."""
        _, channels, height, width = records.images.shape
        try:
            return PlanDraft(
                name=name,
                classes=len(records.class_names),
                image=Image(channels=channels, height=height, width=width),
                model=self.model,
                training=self.training,
                strategy=self.strategy,
                gate=self.gate,
                erasure=self.erasure,
                encoding=self.encoding,
            )
        except ValidationError as error:
            raise BadConfig(f"the study's plan: {_first(error)}") from error


class StudyConfig(_Section):
    """A study: every combination of images, kind of target, share and seed is a unit."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    seeds: tuple[int, ...] = Field(min_length=1)
    kinds: tuple[Kind, ...] = Field(default=("backdoored", "honest"), min_length=1)
    sites: Count = 5
    alpha: float = Field(default=1.0, gt=0)
    target_share: float = Field(default=0.2, gt=0, lt=1)
    before: Count = 120  # accepted deltas until the request
    after: Count = 160  # retained deltas from the request on
    after_honest: Count | None = None  # of an honest target, whose bars end sooner
    look_every: Count = 5  # retained deltas
    # Retained deltas at which evidence is gathered.
    snapshots: tuple[int, ...] = Field(default=(60, 150), min_length=1)
    images: tuple[ImagesConfig, ...] = Field(min_length=1)
    methods: tuple[MethodConfig, ...] = ()
    plan: PlanConfig = PlanConfig()
    times: TimesConfig = TimesConfig()
    planting: PlantingConfig = PlantingConfig()
    measured_on: Literal["test", "validation"] = "test"  # validation: to choose settings with
    # Virtual seconds until another site is erased by the same method; none: no other.
    second_request_after: float | None = Field(default=None, ge=0)
    partition: PartitionConfig | None = None
    patients: PatientsConfig | None = None  # a study of subjects at a site that stays, instead

    @model_validator(mode="after")
    def _fit_together(self) -> StudyConfig:
        if len({method.label for method in self.methods}) != len(self.methods):
            raise ValueError("two methods have the same label")
        for method in self.methods:
            if method.label in (TRAINING, *RETRAININGS):
                raise ValueError(f"the label {method.label!r} is that of a reference")
        _check_variants(self.methods)
        if len({images.name for images in self.images}) != len(self.images):
            raise ValueError("two images have the same name")
        if max(self.snapshots, default=0) > self.after:
            raise ValueError("a snapshot lies behind the end of a run (after)")
        if not self.moments("honest"):
            raise ValueError("the first snapshot lies behind the end of a run (after_honest)")
        self._leave_sites()
        self._fit_patients()
        return self

    def _fit_patients(self) -> None:
        if self.patients is None and "canary" in self.kinds:
            raise ValueError("the kind canary is one of a study of [patients]")
        if self.patients is not None and "backdoored" in self.kinds:
            raise ValueError("a study of [patients] has the kinds canary and honest")
        if self.patients is not None and (self.methods or self.second_request_after is not None):
            raise ValueError(
                "a study of [patients] has its methods there, and one request at a time"
            )

    def _leave_sites(self) -> None:
        leaving = 1 if self.second_request_after is None else 2
        if self.sites <= leaving:
            raise ValueError(f"a federation to erase from has at least {leaving + 1} sites")
        if self.partition is not None and self.partition.sites >= self.sites - leaving:
            raise ValueError("a partition leaves at least one of the retained sites (partition)")

    def window(self, kind: Kind) -> int:
        """Retained deltas from the request on."""
        return self.after_honest or self.after if kind == "honest" else self.after

    def moments(self, kind: Kind) -> tuple[int, ...]:
        """The snapshots that lie in the window."""
        return tuple(moment for moment in self.snapshots if moment <= self.window(kind))

    def digest(self, images: ImagesConfig) -> str:
        """SHA-256, hex, of what decides the numbers of one unit, its methods left aside."""
        told = self.model_dump(mode="json", exclude={"seeds", "images", "methods", "kinds", "name"})
        told["images"] = images.model_dump(mode="json")
        # A key that came later and is not used leaves the digests of before as they were.
        told = {key: value for key, value in told.items() if key not in _LATER or value is not None}
        if patients := told.get("patients"):
            patients["methods"] = _FIRST_PATIENT_METHODS  # may be added: the digests stay
            if patients["looks"] is None:
                del patients["looks"]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _check_variants(methods: tuple[MethodConfig, ...]) -> None:
    """A base stands above its variants, so that no method varies itself."""
    above: set[str] = set()
    for method in methods:
        if method.variant_of is not None and method.variant_of not in above:
            raise ValueError(
                f"{method.label!r} is a variant of {method.variant_of!r}, "
                "and no method above it has that label"
            )
        above.add(method.label)


def load_study(path: Path) -> StudyConfig:
    """Raises BadConfig for a missing file, bad TOML, an unknown key or a wrong value."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise BadConfig(f"the study {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"the study {path} is no TOML: {error}") from error
    return parse_study(content, origin=f"the study {path}")


def parse_study(content: dict[str, Any], *, origin: str) -> StudyConfig:
    """As `load_study`, of what the TOML holds."""
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise BadConfig(f"{origin}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{key}: {what}" if key else str(what)
