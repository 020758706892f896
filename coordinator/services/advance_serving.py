"""Advances the serving version to the head every so many accepted deltas, once it is as useful.

Outside an erasure only: during one the serving version is the erasure's business. After one that
failed without a subtraction the head still holds its subject: what is served stays as the policy
set it until another erasure of the site is done.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta

from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import FederationRow
from coordinator.domain.serving import (
    candidate_passes,
    enough_answers,
    promote,
    utilities_of,
)
from coordinator.domain.site import SiteState
from coordinator.domain.task import AnswerKind, Task, TaskKind
from coordinator.ports import IdMaker, Store, UnitOfWork
from coordinator.services import audit
from coordinator.services.live_model import Head, LiveModel
from coordinator.services.model_files import ModelFiles
from coordinator.services.remaining_subjects import remaining_subjects
from letheon.federation.ledger import Entry, EntryKind
from letheon.names import model_name
from letheon.servicekit.clock import Clock

_log = logging.getLogger(__name__)
SERVING_PIN = "serving"
CANDIDATE_PIN = "candidate"


def add_promotion(
    uow: UnitOfWork, head: Head, version: int, clock: Clock, *, erasure: str | None
) -> Entry:
    """Makes `version` the served one: row of the ledger, federation row, pins.

    The caller commits with `head.commit(uow, [entry])`. The file of the version must exist.
    """
    entry = follow(
        head.newest,
        EntryKind.PROMOTION,
        at=clock.now(),
        details={"version": version, "erasure": erasure},
    )
    uow.entries.add(entry)
    uow.federation.save(promote(uow.federation.get(), version, entry=entry.entry))
    uow.models.unpin(SERVING_PIN)
    uow.models.unpin(CANDIDATE_PIN)
    uow.models.pin(version, SERVING_PIN)
    return entry


@dataclass(frozen=True)
class AdvanceServing:
    """Called after accepted deltas and answers, by one thread."""

    store: Store
    live: LiveModel
    files: ModelFiles
    clock: Clock
    new_id: IdMaker
    every: int  # accepted deltas
    margin: float  # accuracy a new version may lose
    answer_timeout: timedelta

    def __call__(self) -> None:
        """Starts or settles one candidate, if it is time to."""
        with self.store.read() as uow:
            row = uow.federation.get()
            withheld = _is_withheld(uow)
            newest = uow.entries.newest()
            accepted = (
                0
                if newest is None
                else uow.entries.accepted_between(row.last_advance_entry + 1, newest.entry)
            )
        if withheld:
            return
        if row.candidate_version is not None:
            self._settle(row, row.candidate_version)
        elif accepted >= self.every:
            self._propose()

    def _propose(self) -> None:
        """Asks every active site how useful the head is, beside the served version."""
        file = self.files.write(*self.live.snapshot(), pin=CANDIDATE_PIN)
        now = self.clock.now()
        with self.store.write() as uow:
            row = uow.federation.get()
            if _is_withheld(uow) or row.candidate_version is not None:
                return
            versions = [file.version]
            if row.serving_version is not None and row.serving_version != file.version:
                versions.append(row.serving_version)
            for site in uow.sites.all():
                if site.state is SiteState.ACTIVE:
                    uow.tasks.add(
                        Task(
                            id=self.new_id(),
                            request_id=candidate_request(file.version),
                            site=site.id,
                            erasure=None,
                            kind=TaskKind.EVALUATE,
                            payload={"versions": versions},
                            created_at=now,
                        )
                    )
            uow.federation.save(replace(row, candidate_version=file.version, candidate_since=now))
            uow.commit()
        _log.info("candidate_proposed", extra={"version": file.version})

    def _settle(self, row: FederationRow, candidate: int) -> None:
        """Promotes or drops the candidate once half of the sites have answered."""
        with self.live.exclusive() as head, self.store.write() as uow:
            if uow.federation.get() != row or _is_withheld(uow):
                return
            tasks = uow.tasks.of_request(candidate_request(candidate), None)
            answers = [t.answer for t in tasks if t.answer_kind is AnswerKind.EVALUATE and t.answer]
            late = (
                row.candidate_since is not None
                and self.clock.now() - row.candidate_since > self.answer_timeout
            )
            done = all(not task.is_waiting for task in tasks)
            if not (enough_answers(len(answers), len(tasks)) or late or done):
                return
            passes = enough_answers(len(answers), len(tasks)) and candidate_passes(
                utilities_of(answers),
                candidate=candidate,
                serving=row.serving_version,
                margin=self.margin,
            )
            self._withdraw(uow, tasks)
            if passes:
                entry = add_promotion(uow, head, candidate, self.clock, erasure=None)
                audit.record(uow, entry.at, "model.served", model_name(candidate), itself=True)
                head.commit(uow, [entry])
            else:
                uow.models.unpin(CANDIDATE_PIN)
                uow.federation.save(
                    replace(
                        row,
                        candidate_version=None,
                        candidate_since=None,
                        last_advance_entry=head.newest.entry,
                    )
                )
                uow.commit()
        _log.info("candidate_settled", extra={"version": candidate, "promoted": passes})

    def _withdraw(self, uow: UnitOfWork, tasks: list[Task]) -> None:
        for task in tasks:
            if task.is_waiting:
                uow.tasks.save(replace(task, withdrawn_at=self.clock.now()))


def _is_withheld(uow: UnitOfWork) -> bool:
    """Whether the head may not be served for now."""
    return bool(uow.erasures.open() or remaining_subjects(uow))


def candidate_request(version: int) -> str:
    """The request id of the question how useful a candidate is."""
    return f"serving-{version}"
