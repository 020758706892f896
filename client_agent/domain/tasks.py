"""What the coordinator asks of an agent, in the agent's own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from letheon.errors import Refused, StartOver, StorageUnavailable, Unavailable


@dataclass(frozen=True)
class TrainTask:
    """Train from the head and push the delta."""

    name: str
    epoch: int
    plan_digest: str
    seed: int
    exclusion_counter: int
    learning_rate: float


@dataclass(frozen=True)
class EvaluateTask:
    """Utility of each version on the validation records."""

    name: str
    versions: tuple[int, ...]


@dataclass(frozen=True)
class AuditTask:
    """Forget statistic of each version: the site's training records against its controls."""

    name: str
    erasure: str
    versions: tuple[int, ...]
    seed: int
    records: str = ""  # reference of the records to compare; empty: all that is trained on


@dataclass(frozen=True)
class MergedDelta:
    """One of the site's deltas as it went into the head."""

    update_id: str
    base_version: int
    coefficient: float


@dataclass(frozen=True)
class ExcludeTask:
    """Use some records no longer."""

    name: str
    erasure: str
    records: str  # their reference


@dataclass(frozen=True)
class EraseTask:
    """A step of an unlearning method, computed from `version`."""

    name: str
    erasure: str
    method: str
    parameters_json: str
    version: int
    seed: int
    records: str = ""  # reference: recompute these deltas without them
    deltas: tuple[MergedDelta, ...] = ()


@dataclass(frozen=True)
class InvalidateTask:
    """Delete what is held of these versions: an erasure made them invalid."""

    name: str
    erasure: str
    first_version: int
    last_version: int


@dataclass(frozen=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


AnswerTask = ExcludeTask | EvaluateTask | AuditTask | EraseTask | InvalidateTask
Task = TrainTask | AnswerTask


@dataclass(frozen=True)
class Assignment:
    """The coordinator's answer to a poll."""

    work: Task | Wait
    epoch: int
    traceparent: str = ""  # the trace that the task belongs to, if any


@dataclass(frozen=True)
class Pulse:
    """The coordinator's answer to a heartbeat."""

    epoch: int
    abandon: bool


class SiteState(StrEnum):
    """How the coordinator sees the site."""

    ACTIVE = "active"
    FENCED = "fenced"
    ERASED = "erased"


@dataclass(frozen=True)
class Standing:
    """What registering told."""

    state: SiteState
    erasure: str  # erasures/{erasure} that fenced the site, or empty


@dataclass(frozen=True)
class ModelFile:
    """A model on disk: [d] little-endian float32, in the order of the plan's layout."""

    version: int
    epoch: int
    path: Path


class TaskOutcome(StrEnum):
    """How a task ended; the closed label set of the task counter."""

    DONE = "done"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    CRASHED = "crashed"
    WITHDRAWN = "withdrawn"


class TaskAbandoned(StartOver):
    """The work was given up because its epoch ended or the agent stops."""

    def __init__(self, message: str = "the work was given up", **facts: object) -> None:
        super().__init__(message, **facts)


class TrainingProcessDied(Unavailable):
    """The training process ended in the middle of a command."""


class GpuOutOfMemory(Refused):
    """The GPU has no memory left for this task; the training process lives."""


class SiteDiskFailed(StorageUnavailable):
    """The disk of this site, not the coordinator's, did not take what was to be kept."""
