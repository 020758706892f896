"""A run of the gate: its number, and whether its evidence still counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coordinator.domain.erasure import Attempt, Erasure, Removal, Verdict
from coordinator.ports import UnitOfWork
from coordinator.services.remaining_subjects import is_due
from letheon.errors import MalformedRequest, PatchVoid


@dataclass(frozen=True)
class RunOfTheGate:
    """What the calibrator found. Number 0 means the next one."""

    number: int
    version: int
    verdict: Verdict
    tests: list[dict[str, object]]


def attempt_of(
    uow: UnitOfWork, erasure: Erasure, removal: Removal, run: RunOfTheGate, now: datetime
) -> Attempt:
    """The row of an attempt, numbered. Raises MalformedRequest for a number out of turn."""
    due = len(uow.attempts.of(erasure.id)) + 1
    if run.number not in (0, due):
        raise MalformedRequest(
            f"the next attempt has number {due}, not {run.number}", field="attempt.number"
        )
    newest = uow.entries.newest()
    accepted = (
        0
        if newest is None
        else uow.entries.accepted_between(
            removal.entry + 1, newest.entry, without=erasure.site if erasure.names_site else None
        )
    )
    return Attempt(
        erasure=erasure.id,
        number=due,
        version=run.version,
        verdict=run.verdict,
        tests=run.tests,
        at=now,
        accepted_since_removal=accepted,
    )


def check_removed(erasure: Erasure) -> Removal:
    """The removal. Raises MalformedRequest if it has not happened."""
    if erasure.removal is None:
        raise MalformedRequest(
            f"erasures/{erasure.id} is {erasure.state}: the removal comes before the gate",
            field="name",
        )
    return erasure.removal


def check_evidence(uow: UnitOfWork, erasure: Erasure, version: int, epoch: int) -> None:
    """Raises PatchVoid unless `version` is of the newest epoch and free of subjects due."""
    removal = check_removed(erasure)
    later = [e for e in uow.erasures.all() if e.removal and e.removal.entry > removal.entry]
    oldest = max([removal.version_after, *(e.removal.version_after for e in later if e.removal)])
    newest = uow.entries.newest()
    if newest is None or newest.epoch != epoch or not oldest <= version <= newest.version:
        raise PatchVoid(
            f"models/{version} is from before the newest removal (models/{oldest}): gather "
            "evidence again",
            version=version,
            first_version=oldest,
        )
    for other in uow.erasures.open():
        first = uow.sites.get(other.site).first_version
        if is_due(other, uow) and first is not None and first <= version:
            raise PatchVoid(
                f"models/{version} holds sites/{other.site}, whose removal is due: gather "
                "evidence again after it",
                version=version,
                erasure=other.id,
            )
