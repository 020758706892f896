"""Withdraws a request and lifts its fence. Possible until the removal.

The fence of an earlier erasure of the site that failed stays. Of records, work begun before the
request stays refused: the site has new work by then, and its agent decides what it trains on.
"""

from __future__ import annotations

from coordinator.domain.erasure import Erasure, ErasureState, cancel
from coordinator.domain.serving import end_without_promotion
from coordinator.domain.site import fence, lift_fence
from coordinator.ports import UnitOfWork
from coordinator.services import audit
from coordinator.services.erasure_context import ErasureContext, pin_reason
from coordinator.services.remaining_subjects import remaining_subjects
from coordinator.services.request_erasure import FALLBACK_PIN
from coordinator.services.withdraw_tasks import withdraw_tasks
from letheon.errors import NotPermitted
from letheon.names import erasure_name
from letheon.servicekit.caller import Role, current_caller
from letheon.servicekit.faults import reach


def cancel_erasure(erasure_id: str, context: ErasureContext) -> Erasure:
    """The cancelled erasure. Idempotent.

    Raises UnknownErasure; NotPermitted for a site that did not ask for it; ErasureNotCancellable
    after the removal.
    """
    cancelled = _cancelled(erasure_id, context)
    reach("cancel.committed")
    context.tombstones.record(cancelled)
    return cancelled


def _cancelled(erasure_id: str, context: ErasureContext) -> Erasure:
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = uow.erasures.get(erasure_id)
        _check_may_cancel(erasure)
        cancelled = cancel(erasure, now)
        if erasure.state is ErasureState.CANCELLED:
            return erasure
        uow.erasures.save(cancelled)
        if erasure.state is ErasureState.AWAITING_APPROVAL:
            uow.commit()  # it had fenced nothing
            return cancelled
        if erasure.names_site:
            _lift(uow, erasure.site)
        withdraw_tasks(uow, erasure_id, now)
        uow.models.unpin(pin_reason(erasure_id))
        others_due = bool(uow.erasures.open() or remaining_subjects(uow))
        row = uow.federation.get()
        uow.federation.save(end_without_promotion(row, others_due=others_due))
        if not others_due:
            uow.models.unpin(FALLBACK_PIN)
        audit.record(uow, now, "erasure.cancelled", erasure_name(erasure_id), site=erasure.site)
        uow.commit()
    return cancelled


def _check_may_cancel(erasure: Erasure) -> None:
    caller = current_caller()
    if caller.role is Role.SITE and erasure.requested_by != str(caller):
        raise NotPermitted(
            f"{caller} did not ask for erasures/{erasure.id}: an operator can cancel it",
            erasure=erasure.id,
        )


def _lift(uow: UnitOfWork, name: str) -> None:
    site = uow.sites.get(name)
    earlier = [e for e in uow.erasures.of_site(name) if e.names_site]
    failed = [e for e in earlier if e.state is ErasureState.FAILED]
    if failed:
        newest = max(failed, key=lambda erasure: erasure.requested_at)
        uow.sites.save(fence(site, newest.id))
    else:
        uow.sites.save(lift_fence(site))
