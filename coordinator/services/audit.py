"""Writes the audit log: one row an act, inside the transaction of what it tells of.

Who acts is what the connection proved (`letheon.servicekit.caller`); for work that no call asked
for it is the coordinator itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from coordinator.domain.erasure import Erasure, Removal
from coordinator.ports import UnitOfWork
from letheon.names import erasure_name
from letheon.proof.audit_chain import DONE, AuditRow, follow
from letheon.servicekit.caller import current_caller

_ITSELF = "system"
_LONGEST = 200


def record(
    uow: UnitOfWork,
    now: datetime,
    action: str,
    object_name: str,
    *,
    outcome: str = DONE,
    itself: bool = False,
    details: Mapping[str, object] | None = None,
    **more: str | int | bool | list[str] | dict[str, int],
) -> AuditRow:
    """Adds the next row; the caller commits. `itself`: no call asked for it.

    `details` and `more` are short JSON values: names, versions, digests, codes; never free text of
    a caller that could hold a patient's name.
    """
    who = current_caller()
    row = follow(
        uow.audit.newest(),
        at=now,
        role=_ITSELF if itself else str(who.role),
        caller="coordinator" if itself else who.name[:_LONGEST],
        serial="" if itself else who.serial[:64],
        action=action,
        object_name=object_name[:_LONGEST],
        outcome=outcome,
        details={**(details or {}), **more},
    )
    uow.audit.add(row)
    return row


def record_removal(uow: UnitOfWork, erasure: Erasure, removal: Removal, now: datetime) -> None:
    """What a removal did."""
    record(
        uow,
        now,
        "erasure.removed",
        erasure_name(erasure.id),
        site=erasure.site,
        epoch=removal.epoch,
        version_before=removal.version_before,
        version_after=removal.version_after,
        entry=removal.entry,
    )
