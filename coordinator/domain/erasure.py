"""The states of an erasure and the moves between them, as pure functions.

AWAITING_APPROVAL -> RECEIVED, CANCELLED
RECEIVED -> CLAIMED -> ERASING -> CALIBRATING <-> VERIFYING -> CERTIFIED
    any open state -> FAILED        RECEIVED, CLAIMED -> CANCELLED
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from letheon.errors import (
    ErasureConcluded,
    ErasureNotAwaiting,
    ErasureNotCancellable,
    NotPermitted,
    Refused,
)


class ErasureState(StrEnum):
    """Where an erasure stands."""

    RECEIVED = "received"
    CLAIMED = "claimed"
    ERASING = "erasing"
    CALIBRATING = "calibrating"
    VERIFYING = "verifying"
    CERTIFIED = "certified"
    FAILED = "failed"
    CANCELLED = "cancelled"
    AWAITING_APPROVAL = "awaiting_approval"  # nothing is fenced, nobody may claim it


class Level(StrEnum):
    """Assurance levels."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"


class Verdict(StrEnum):
    """How a test, or a run of the gate, ended."""

    PASS = "pass"  # noqa: S105 (a verdict, no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


_S = ErasureState
TERMINAL = frozenset({_S.CERTIFIED, _S.FAILED, _S.CANCELLED})
# An erasure that waits for an approval is none yet: nothing of the federation waits for it.
OPEN = frozenset(_S) - TERMINAL - {_S.AWAITING_APPROVAL}
BEFORE_REMOVAL = frozenset({_S.AWAITING_APPROVAL, _S.RECEIVED, _S.CLAIMED})
_NEVER_FENCED = frozenset({_S.AWAITING_APPROVAL, _S.CANCELLED})
MOVES: Mapping[ErasureState, frozenset[ErasureState]] = {
    _S.AWAITING_APPROVAL: frozenset({_S.RECEIVED, _S.CANCELLED}),
    _S.RECEIVED: frozenset({_S.CLAIMED, _S.FAILED, _S.CANCELLED}),
    _S.CLAIMED: frozenset({_S.ERASING, _S.FAILED, _S.CANCELLED}),
    _S.ERASING: frozenset({_S.CALIBRATING, _S.VERIFYING, _S.FAILED}),
    _S.CALIBRATING: frozenset({_S.VERIFYING, _S.FAILED}),
    _S.VERIFYING: frozenset({_S.CALIBRATING, _S.CERTIFIED, _S.FAILED}),
    _S.CERTIFIED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


@dataclass(frozen=True)
class Removal:
    """What a removal did."""

    epoch: int
    version_before: int
    version_after: int
    sha256_before: str
    sha256_after: str
    contribution_norm: float  # L2
    head_norm_before: float
    removed_entries: int
    voided_entries: int
    subtracted: bool
    entry: int  # row of the ledger
    exchanged: bool = False  # by a patch: deltas with the records gave way to deltas without


@dataclass(frozen=True)
class Exchange:
    """What the site of an erasure of records was asked to recompute."""

    through_entry: int  # newest row of the ledger then
    version: int  # the head then
    epoch: int
    contribution_sha256: str  # of the site, through that row
    contribution_norm: float  # L2
    deltas: int  # of the site that the contribution holds


@dataclass(frozen=True)
class Erasure:
    """One erasure; `site` is the identifier of its subject, or of where the records are."""

    id: str
    request_id: str
    site: str
    legal_basis: str
    level: Level
    method: str
    calibrate: bool
    requester: str
    state: ErasureState
    requested_at: datetime
    fenced_at: datetime
    deadline: datetime
    state_since: datetime  # for the stage histogram
    claimed_at: datetime | None = None
    removed_at: datetime | None = None
    promoted_at: datetime | None = None
    concluded_at: datetime | None = None
    promoted_version: int | None = None
    removal: Removal | None = None
    evidence_json: str = ""  # process evidence of the passing attempt, canonical JSON
    failure: str = ""
    # As admitted: the most that can be granted, what must not be concluded, and why no certificate
    # can be given at all.
    level_admitted: Level = Level.L1
    caveats: list[str] = field(default_factory=list)
    uncertifiable: str = ""
    # The opaque reference, if the subject is some records of a site that stays; the site's
    # exclusion counter since the request; and what was asked of the site.
    records: str = ""
    exclusion_counter: int = 0
    exchange: Exchange | None = None
    # Who proved to be the one asking and the one consenting, as role/name; and the subject's share
    # of the merged weight when a consent was asked for.
    requested_by: str = ""
    approved_by: str = ""
    share: float = 0.0

    @property
    def names_site(self) -> bool:
        """Whether the subject is the whole site."""
        return not self.records

    @property
    def is_fenced(self) -> bool:
        """Whether its subject was fenced for it, at `fenced_at`."""
        never_approved = self.share > 0.0 and not self.approved_by
        return not (never_approved and self.state in _NEVER_FENCED)

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done."""
        return self.state in OPEN


@dataclass(frozen=True)
class Attempt:
    """One run of the gate. `tests` is a list of JSON objects, one a test."""

    erasure: str
    number: int
    version: int
    verdict: Verdict
    tests: list[dict[str, object]]
    at: datetime
    accepted_since_removal: int


@dataclass(frozen=True)
class Certificate:
    """The signed file of a certified erasure."""

    erasure: str
    content: bytes
    signed_at: datetime


@dataclass(frozen=True)
class Announcement:
    """A row of the outbox: an erasure whose id must reach the stream."""

    id: int
    erasure: str
    created_at: datetime
    announced_at: datetime | None


def move(erasure: Erasure, to: ErasureState, now: datetime) -> Erasure:
    """The erasure in its next state; staying where it is is always allowed.

    Raises ErasureConcluded from a terminal state, Refused for a move that does not exist.
    """
    if to is erasure.state:
        return erasure
    check_open(erasure)
    if to not in MOVES[erasure.state]:
        raise Refused(
            f"erasures/{erasure.id} is {erasure.state} and cannot become {to}",
            erasure=erasure.id,
            state=erasure.state,
        )
    moved = replace(erasure, state=to, state_since=now)
    if to is ErasureState.CLAIMED:
        return replace(moved, claimed_at=now)
    return replace(moved, concluded_at=now) if to in TERMINAL else moved


def check_open(erasure: Erasure) -> None:
    """Raises ErasureConcluded from a terminal state."""
    if erasure.state in TERMINAL:
        raise ErasureConcluded(
            f"erasures/{erasure.id} is {erasure.state}", erasure=erasure.id, state=erasure.state
        )


def cancel(erasure: Erasure, now: datetime) -> Erasure:
    """The withdrawn erasure; cancelling twice is harmless.

    Raises ErasureNotCancellable once the removal happened or the erasure is concluded.
    """
    if erasure.state is ErasureState.CANCELLED:
        return erasure
    if erasure.state not in BEFORE_REMOVAL:
        raise ErasureNotCancellable(
            f"erasures/{erasure.id} is {erasure.state}: "
            "only before the removal can it be cancelled",
            erasure=erasure.id,
            state=erasure.state,
        )
    return move(erasure, ErasureState.CANCELLED, now)


def approve(erasure: Erasure, approver: str, now: datetime) -> Erasure:
    """The erasure as received: it is fenced from now on.

    Raises ErasureNotAwaiting in any other state, NotPermitted for whoever asked for it.
    """
    if erasure.state is not ErasureState.AWAITING_APPROVAL:
        raise ErasureNotAwaiting(
            f"erasures/{erasure.id} is {erasure.state} and waits for no approval",
            erasure=erasure.id,
            state=erasure.state,
        )
    if approver == erasure.requested_by:
        raise NotPermitted(
            f"{approver} asked for erasures/{erasure.id}: another operator must approve it",
            erasure=erasure.id,
        )
    moved = move(erasure, ErasureState.RECEIVED, now)
    return replace(moved, fenced_at=now, approved_by=approver)


def with_removal(erasure: Erasure, removal: Removal, now: datetime) -> Erasure:
    """The erasure after its removal, in state ERASING."""
    return replace(move(erasure, ErasureState.ERASING, now), removal=removal, removed_at=now)
