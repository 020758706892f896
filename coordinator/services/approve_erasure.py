"""The consent of a second operator: from then on the erasure is one like every other."""

from __future__ import annotations

from coordinator.domain.erasure import Erasure, approve
from coordinator.services.admit_erasure import admitted
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.request_erasure import committed
from letheon.servicekit.caller import current_caller


def approve_erasure(erasure_id: str, context: ErasureContext) -> Erasure:
    """The erasure, its subject fenced. Idempotent for whoever approved it.

    Raises UnknownErasure; ErasureNotAwaiting; NotPermitted for whoever asked for it; and what
    `request_erasure` refuses, with which it goes on waiting.
    """
    approver, now = str(current_caller()), context.clock.now()
    with context.store.read() as uow:
        waiting = uow.erasures.get(erasure_id)
    if waiting.approved_by == approver:
        approved = waiting
    else:
        approved = committed(approve(waiting, approver, now), context, admitted)
    context.tombstones.record(approved)
    context.observe_stage("fence", (context.clock.now() - now).total_seconds())
    return approved
