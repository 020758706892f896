"""The sections of a plan, one model each: frozen, and no key that is not known."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

# Strict: TOML and JSON have numbers, so a number in quotes is a mistake.
Positive = Annotated[FiniteFloat, Field(gt=0, strict=True)]
NotNegative = Annotated[FiniteFloat, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Section(BaseModel):
    """Keys that came after the first release are not written while they hold their default, so that
    a plan of before keeps its digest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _leave_out(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = plain(self)
        fields = type(self).model_fields
        for key in self.later:
            if getattr(self, key) == fields[key].default:
                told.pop(key, None)
        return told


class Plugin(Section):
    """Entry point name of a plug-in, and its arguments."""

    plugin: str = Field(min_length=1)
    arguments: dict[str, JsonValue] = {}

    @field_validator("arguments")
    @classmethod
    def _refuse_nan(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        json.dumps(arguments, allow_nan=False)  # a digest needs JSON that every reader accepts
        return arguments


CLASSIFICATION = Plugin(plugin="classification")


class Image(Section):
    """Shape of one record: an image in pixels, a volume (with `depth`), or a row of a table."""

    later = ("channels", "height", "width", "depth", "features")

    channels: Count | None = None
    height: Count | None = None
    width: Count | None = None
    depth: Count | None = None
    features: Count | None = None  # of a table: alone

    @model_validator(mode="after")
    def _be_an_image_or_a_row(self) -> Image:
        sides = (self.channels, self.height, self.width)
        if self.features is not None:
            if any(side is not None for side in (*sides, self.depth)):
                raise ValueError("features is of a table: it stands alone")
        elif None in sides:
            raise ValueError(
                "give channels, height and width (depth too for volumes), or features for a table"
            )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width), (channels, depth, height, width) or (features,)."""
        sides = (self.features, self.channels, self.depth, self.height, self.width)
        return tuple(side for side in sides if side is not None)


class Training(Section):
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


class Serving(Section):
    """Which version consumers get."""

    advance_every: Count = 20  # accepted deltas between two advances, outside an erasure
    policy: Literal["serve-old", "serve-none", "serve-fallback"] = "serve-old"
    utility_margin: NotNegative = 0.05  # accuracy a new version may lose


class Gate(Section):
    """The tests an erased model passes before it serves. Margins are shares of 1."""

    every: Count = 8  # accepted deltas between two attempts
    max_attempts: Count = 20
    utility_margin: NotNegative = 0.03  # mean over the retained sites
    worst_site_margin: NotNegative = 0.08
    forget_margin: NotNegative = 0.05
    bootstrap: Count = 400  # resamples
    answer_timeout_seconds: Positive = 60.0
    straggler_grace_seconds: NotNegative = 5.0  # after half of the sites and the audit answered


class Erasure(Section):
    """Limits of an erasure."""

    later = ("epoch_share",)

    patch_cap_ratio: Annotated[Positive, Field(le=1)] = 0.25  # |patch| against |C_T|
    deadline_days: Count = 30
    # An exchange of a site's deltas whose patch is a larger share of |C_k| begins a new epoch.
    epoch_share: Annotated[NotNegative, Field(le=1)] = 0.1


class Screening(Section):
    """What is done with a delta that looks unlike those accepted of late."""

    mode: Literal["off", "advise", "quarantine"] = "off"  # advise: a log line and a count
    history: Annotated[Count, Field(ge=8, le=1000)] = 48  # accepted deltas looked back on
    norm_ratio: Annotated[Positive, Field(gt=1)] = 4.0  # times the median: always tolerated
    cosine_floor: Annotated[FiniteFloat, Field(ge=-1, le=0, strict=True)] = -0.3
    deviations: Positive = 4.0  # robust standard deviations
