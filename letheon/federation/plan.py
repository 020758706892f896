"""The plan: what a federation trains and by which rules. Data, never code.

Written once by `letheon federation init` from a TOML file and the layout of the initial weights;
every task names its digest. A TOML plan has the fields of `PlanDraft`:

    name = "pneumonia"
    classes = 2
    encoding = "float32"
    model = { plugin = "small_cnn", arguments = { width = 16 } }
    image = { channels = 1, height = 28, width = 28 }   # depth = 32 too, or features = 13 alone
    task = "classification"                             # multi_label, tabular, segmentation
    strategy = { plugin = "fedasync", arguments = { staleness = "polynomial" } }
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from letheon import registry
from letheon.errors import BadConfig, BadData, MalformedUpdate
from letheon.federation.aggregation.strategy import Strategy
from letheon.federation.encoding import TOP_SHARE, check_encoding, exact_encoding
from letheon.federation.parameters import Layout
from letheon.federation.plan_sections import CLASSIFICATION, Count, Positive, Section
from letheon.federation.plan_sections import Erasure as Erasure
from letheon.federation.plan_sections import Gate as Gate
from letheon.federation.plan_sections import Image as Image
from letheon.federation.plan_sections import Plugin as Plugin
from letheon.federation.plan_sections import Screening as Screening
from letheon.federation.plan_sections import Serving as Serving
from letheon.federation.plan_sections import Training as Training


class PlanDraft(Section):
    """A plan before the layout of its weights is known."""

    later = ("task", "also_accepts", "top_share", "screening", "max_record_count")

    name: str = Field(min_length=1, max_length=100)
    task: Plugin = CLASSIFICATION  # a name alone does: task = "segmentation"
    model: Plugin
    image: Image
    classes: Annotated[Count, Field(ge=2)]
    class_names: tuple[str, ...] = ()  # as many as classes, or none
    training: Training = Training()
    encoding: str = "float32"  # of deltas; letheon.federation.encoding has the names
    also_accepts: tuple[str, ...] = ()  # encodings that a site may choose instead
    top_share: Annotated[Positive, Field(le=1)] = TOP_SHARE  # of the values that topk keeps
    strategy: Plugin = Plugin(plugin="fedasync")
    max_delta_norm: Positive | None = None  # L2
    max_record_count: Count | None = None  # a site weighs by no more, whatever it says
    screening: Screening = Screening()
    serving: Serving = Serving()
    gate: Gate = Gate()
    erasure: Erasure = Erasure()

    @field_validator("encoding", "also_accepts")
    @classmethod
    def _know_encodings(cls, told: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for encoding in (told,) if isinstance(told, str) else told:
            try:
                check_encoding(encoding)
            except MalformedUpdate as error:
                raise ValueError(error.message) from error
        return told

    @field_validator("task", mode="before")
    @classmethod
    def _read_a_name_alone(cls, task: object) -> object:
        return {"plugin": task} if isinstance(task, str) else task

    @model_validator(mode="after")
    def _name_every_class(self) -> PlanDraft:
        if self.class_names and len(set(self.class_names)) != self.classes:
            raise ValueError(f"class_names must name each of the {self.classes} classes once")
        return self

    @property
    def delta_encodings(self) -> tuple[str, ...]:
        """What a delta may travel by; the first unless a site chooses another."""
        return (self.encoding, *(one for one in self.also_accepts if one != self.encoding))

    @property
    def patch_encoding(self) -> str:
        """How patches travel, and answers to erase tasks."""
        return exact_encoding(self.encoding)

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
        except (ValueError, RecursionError) as error:
            raise BadConfig(f"the plan is no JSON: {error}") from error
        plan = _checked(cls, content, origin="the plan")
        try:
            plan.canonical_json()
        except (ValueError, RecursionError) as error:  # NaN, lone surrogates
            raise BadConfig(
                f"the plan holds a value that has no canonical form: {error}"
            ) from error
        return plan


def load_plan(path: Path | str) -> PlanDraft:
    """The plan of a TOML file, its strategy built once to see that it can be.

    Raises BadConfig (missing file, bad TOML, unknown key, wrong value) or UnknownPlugin.
    """
    try:
        with Path(path).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise BadConfig(f"the plan {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
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
