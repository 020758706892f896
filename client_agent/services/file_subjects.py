"""Files what the hospital asks to erase, and learns how it ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta

from client_agent.domain.subjects import SiteKey, Subject, SubjectState
from client_agent.ports import Coordinator, Subjects
from letheon.errors import (
    AlreadyExists,
    BadInput,
    ErasureAlreadyRequested,
    LetheonError,
    NotFound,
    Refused,
)
from letheon.servicekit.clock import Clock

log = logging.getLogger(__name__)
_ENDED = {
    "certified": SubjectState.CERTIFIED,
    "failed": SubjectState.FAILED,
    "cancelled": SubjectState.CANCELLED,
}


@dataclass
class FileSubjects:
    """The use case of every turn of the agent; cheap when there is nothing to do."""

    subjects: Subjects
    coordinator: Coordinator
    key: SiteKey
    clock: Clock
    window: timedelta  # in which requests are collected, to be erased together
    look_every_s: float = 10.0
    _looked_at: float | None = field(default=None, init=False)

    def __call__(self) -> None:
        """Raises Unavailable, Busy and UnknownSite; nothing is lost, the next turn tries again."""
        if self.subjects.in_state(SubjectState.COLLECTING):
            self.subjects.seal_collected(self.window)
        for subject in self.subjects.in_state(SubjectState.DUE):
            try:
                self.file(subject)
            except (AlreadyExists, BadInput, Refused) as error:
                # Asking again would not help; the records stay out of use.
                log.exception("erasure_refused", extra={"reason": error.reason})
                self.subjects.conclude(subject, SubjectState.FAILED, self.key)
        now = self.clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= self.look_every_s:
            self._looked_at = now
            self._look()

    def file(self, subject: Subject) -> str:
        """The erasure of a subject, filed. Raises what the coordinator answers."""
        try:
            erasure = self.coordinator.request_erasure(
                subject.request_id, subject.reference, subject.basis
            )
        except ErasureAlreadyRequested as error:
            # As after the agent's own state was restored: the one that exists is ours.
            erasure = f"erasures/{error.facts.get('erasure', '')}"
        self.subjects.filed(subject, erasure)
        log.info("erasure_filed", extra={"erasure": erasure})
        return erasure

    def _look(self) -> None:
        for subject in self.subjects.in_state(SubjectState.FILED):
            try:
                state = self.coordinator.erasure_state(subject.erasure)
            except NotFound:
                continue  # of a coordinator that was put back from a backup and catches up
            except LetheonError:
                return
            if state in _ENDED:
                self.subjects.conclude(subject, _ENDED[state], self.key)
                log.info("erasure_ended", extra={"erasure": subject.erasure, "state": state})
