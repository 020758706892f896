"""What the coordinator asks of an agent, in the agent's own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from letheon.errors import StartOver, Unavailable


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


@dataclass(frozen=True)
class EraseTask:
    """A step of an unlearning method, computed from `version`."""

    name: str
    erasure: str
    method: str
    parameters_json: str
    version: int
    seed: int


@dataclass(frozen=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


AnswerTask = EvaluateTask | AuditTask | EraseTask
Task = TrainTask | AnswerTask


@dataclass(frozen=True)
class Assignment:
    """The coordinator's answer to a poll."""

    work: Task | Wait
    epoch: int


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
