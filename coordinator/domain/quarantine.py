"""Deltas that screening set aside: whole, durable, not merged, until the operator decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from letheon.errors import UpdateDecided


class QuarantineState(StrEnum):
    """What became of it."""

    WAITING = "waiting"
    RELEASED = "released"  # merged since
    REJECTED = "rejected"  # by the operator; its payload is gone
    VOIDED = "voided"  # its site, or records it may hold, were erased; its payload is gone


@dataclass(frozen=True)
class QuarantinedDelta:
    """One delta, with all that accepting it takes."""

    update_id: str
    site: str
    task: str
    base_version: int
    epoch: int
    exclusion_counter: int
    record_count: int
    train_loss: float
    norm: float  # L2
    norm_ratio: float | None  # to the median it was held against
    cosine: float | None  # with the mean direction of what its site sent before
    finding: str  # why it was set aside, a sentence
    payload_sha256: str
    payload_bytes: int
    encoding: str
    state: QuarantineState
    arrived_at: datetime
    decided_at: datetime | None = None
    decision: str = ""  # the operator's reason
    entry: int | None = None  # of the ledger, once released
    key_id: str = ""  # of the site's signature; empty without one
    signature: str = ""  # as text; kept with the ledger's row once released


def decided(
    delta: QuarantinedDelta,
    state: QuarantineState,
    now: datetime,
    *,
    decision: str = "",
    entry: int | None = None,
) -> QuarantinedDelta:
    """The delta with what became of it. Raises UpdateDecided if something else did before."""
    if delta.state is not QuarantineState.WAITING:
        raise UpdateDecided(
            f"update {delta.update_id} was {delta.state.value} before",
            update_id=delta.update_id,
            state=delta.state,
        )
    return replace(delta, state=state, decided_at=now, decision=decision, entry=entry)
