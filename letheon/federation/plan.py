"""The plan: what a federation trains and by which rules. Data, never code.

Written once by `letheon federation init` from a TOML file and the layout of the initial weights;
every task names its digest. A TOML plan has the fields of `PlanDraft`:

    name = "pneumonia"
    classes = 2
    encoding = "float32"
    model = { plugin = "small_cnn", arguments = { width = 16 } }
    image = { channels = 1, height = 28, width = 28 }
    strategy = { plugin = "fedasync", arguments = { staleness = "polynomial" } }
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from letheon import registry
from letheon.errors import BadConfig, BadData
from letheon.federation.aggregation.strategy import Strategy
from letheon.federation.parameters import Layout

# Strict: TOML and JSON have numbers, so a number in quotes is a mistake.
Positive = Annotated[FiniteFloat, Field(gt=0, strict=True)]
NotNegative = Annotated[FiniteFloat, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Plugin(_Section):
    """Entry point name of a plug-in, and its arguments."""

    plugin: str = Field(min_length=1)
    arguments: dict[str, JsonValue] = {}

    @field_validator("arguments")
    @classmethod
    def _refuse_nan(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        json.dumps(arguments, allow_nan=False)  # a digest needs JSON that every reader accepts
        return arguments


class Image(_Section):
    """Shape of one image: channels, height and width in pixels."""

    channels: Count
    height: Count
    width: Count


class Training(_Section):
    """The local training of one task: plain SGD with momentum."""

    local_steps: Count = 16
    batch_size: Count = 32
    learning_rate: Positive = 0.05  # of the first tasks of an epoch
    final_learning_rate: Positive | None = None  # none: the rate stays as it is
    decay_versions: Count = 100  # over so many versions of an epoch the rate falls, linearly
    momentum: Annotated[NotNegative, Field(lt=1)] = 0.9
    clip_norm: Positive = 5.0  # L2 norm of each step's gradient
    weight_decay: NotNegative = 0.0

    def learning_rate_at(self, versions: int) -> float:
        """The rate of a task dispatched `versions` after its epoch began.

        An erasure begins a new epoch, so the rate starts afresh: the retained sites repair the
        head faster than they could at the rate they had come down to.
        """
        if self.final_learning_rate is None:
            return self.learning_rate
        done = min(1.0, max(0, versions) / self.decay_versions)
        return self.learning_rate + done * (self.final_learning_rate - self.learning_rate)


class Serving(_Section):
    """Which version consumers get."""

    advance_every: Count = 20  # accepted deltas between two advances, outside an erasure
    policy: Literal["serve-old", "serve-none", "serve-fallback"] = "serve-old"
    utility_margin: NotNegative = 0.05  # accuracy a new version may lose


class Gate(_Section):
    """The tests an erased model passes before it serves. Margins are shares of 1."""

    every: Count = 8  # accepted deltas between two attempts
    max_attempts: Count = 20
    utility_margin: NotNegative = 0.03  # mean over the retained sites
    worst_site_margin: NotNegative = 0.08
    forget_margin: NotNegative = 0.05
    bootstrap: Count = 400  # resamples
    answer_timeout_seconds: Positive = 60.0
    straggler_grace_seconds: NotNegative = 5.0  # after half of the sites and the audit answered


class Erasure(_Section):
    """Limits of an erasure."""

    patch_cap_ratio: Annotated[Positive, Field(le=1)] = 0.25  # |patch| against |C_T|
    deadline_days: Count = 30


class PlanDraft(_Section):
    """A plan before the layout of its weights is known."""

    name: str = Field(min_length=1, max_length=100)
    model: Plugin
    image: Image
    classes: Annotated[Count, Field(ge=2)]
    class_names: tuple[str, ...] = ()  # as many as classes, or none
    training: Training = Training()
    encoding: Literal["float32", "float16"] = "float32"
    strategy: Plugin = Plugin(plugin="fedasync")
    max_delta_norm: Positive | None = None  # L2
    serving: Serving = Serving()
    gate: Gate = Gate()
    erasure: Erasure = Erasure()

    @model_validator(mode="after")
    def _name_every_class(self) -> PlanDraft:
        if self.class_names and len(set(self.class_names)) != self.classes:
            raise ValueError(f"class_names must name each of the {self.classes} classes once")
        return self

    def build_strategy(self) -> Strategy:
        """The strategy of the plan. Raises UnknownPlugin or BadConfig."""
        strategy = registry.build(
            registry.AGGREGATION, self.strategy.plugin, self.strategy.arguments
        )
        if not isinstance(strategy, Strategy):
            raise BadConfig(f"plug-in {self.strategy.plugin!r} is no aggregation strategy")
        return strategy

    def with_layout(self, layout: Layout) -> Plan:
        """The plan of a model with that layout."""
        return Plan(**self.model_dump(), layout=layout.to_json())


class Plan(PlanDraft):
    """What a federation trains and by which rules, weights' layout included."""

    layout: list[dict[str, JsonValue]]  # as Layout.to_json

    @field_validator("layout")
    @classmethod
    def _read_layout(cls, layout: list[dict[str, JsonValue]]) -> list[dict[str, Any]]:
        try:
            return Layout.from_json(layout).to_json()
        except BadData as error:
            raise ValueError(error.message) from error

    @cached_property
    def parameters(self) -> Layout:
        """The layout as a value."""
        return Layout.from_json(self.layout)

    def canonical_json(self) -> bytes:
        """UTF-8 JSON, sorted keys, no spaces: the bytes that are digested."""
        text = json.dumps(
            self.model_dump(mode="json"),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
        return text.encode()

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of the canonical JSON."""
        return hashlib.sha256(self.canonical_json()).hexdigest()

    @classmethod
    def from_canonical(cls, canonical: bytes) -> Plan:
        """The plan of its canonical JSON. Raises BadConfig."""
        try:
            content = json.loads(canonical)
        except ValueError as error:
            raise BadConfig(f"the plan is no JSON: {error}") from error
        return _checked(cls, content, origin="the plan")


def load_plan(path: Path | str) -> PlanDraft:
    """The plan of a TOML file, its strategy built once to see that it can be.

    Raises BadConfig (missing file, bad TOML, unknown key, wrong value) or UnknownPlugin.
    """
    try:
        with Path(path).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise BadConfig(f"the plan {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"the plan {path} is no TOML: {error}") from error
    draft = _checked(PlanDraft, content, origin=f"the plan {path}")
    draft.build_strategy()
    return draft


_Draft = TypeVar("_Draft", bound=PlanDraft)


def _checked(model: type[_Draft], content: object, *, origin: str) -> _Draft:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            valid = ", ".join(_valid_keys(model, first["loc"][:-1]))
            what = f"unknown key {key!r}; valid here: {valid}"
        else:
            what = f"{key}: {first['msg']}" if key else first["msg"]
        raise BadConfig(f"{origin}: {what}", key=key) from error


def _valid_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The fields of the section at that location."""
    for part in location:
        section = model.model_fields[str(part)].annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return []
        model = section
    return sorted(model.model_fields)
