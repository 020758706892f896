"""Tasks kept as rows: exclude, evaluate, audit and erase. Train tasks are not stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TaskKind(StrEnum):
    """What a site is asked."""

    EXCLUDE = "exclude"
    EVALUATE = "evaluate"
    AUDIT = "audit"
    ERASE = "erase"
    INVALIDATE = "invalidate"


class AnswerKind(StrEnum):
    """What came back."""

    EXCLUDE = "exclude"
    EVALUATE = "evaluate"
    AUDIT = "audit"
    ERASE = "erase"
    INVALIDATE = "invalidate"
    FAILURE = "failure"


@dataclass(frozen=True)
class Task:
    """A question to a site, handed out until answered or withdrawn.

    `payload` holds the fields of the task as JSON: exclude {records, exclusion_counter}; evaluate
    {versions}; audit {versions, seed, records}; erase {method, parameters_json, version, seed} and,
    of records, {records, deltas: [[update id, base version, coefficient as hex], ...]}; invalidate
    {first_version, last_version, certificate}. `answer`
    holds the fields of the answer message, named as in the proto.
    """

    id: str
    request_id: str  # of AskSites, or of the coordinator's own serving check
    site: str
    erasure: str | None
    kind: TaskKind
    payload: dict[str, object]
    created_at: datetime
    answer_kind: AnswerKind | None = None
    answer: dict[str, object] | None = None
    answered_at: datetime | None = None
    withdrawn_at: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the site should still answer it."""
        return self.answered_at is None and self.withdrawn_at is None
