"""Withdraws a request and lifts its fence. Possible until the removal.

The fence of an earlier erasure of the site that failed stays.
"""

from __future__ import annotations

from coordinator.domain.erasure import Erasure, ErasureState, cancel
from coordinator.domain.serving import end_without_promotion
from coordinator.domain.site import fence, lift_fence
from coordinator.ports import UnitOfWork
from coordinator.services.erasure_context import ErasureContext, pin_reason
from coordinator.services.remaining_subjects import remaining_subjects
from coordinator.services.request_erasure import FALLBACK_PIN
from coordinator.services.withdraw_tasks import withdraw_tasks
from letheon.servicekit.faults import reach


def cancel_erasure(erasure_id: str, context: ErasureContext) -> Erasure:
    """The cancelled erasure. Idempotent.

    Raises UnknownErasure; ErasureNotCancellable after the removal.
    """
    cancelled = _cancelled(erasure_id, context)
    reach("cancel.committed")
    context.tombstones.record(cancelled)
    return cancelled


def _cancelled(erasure_id: str, context: ErasureContext) -> Erasure:
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = uow.erasures.get(erasure_id)
        cancelled = cancel(erasure, now)
        if erasure.state is ErasureState.CANCELLED:
            return erasure
        uow.erasures.save(cancelled)
        _lift(uow, erasure.site)
        withdraw_tasks(uow, erasure_id, now)
        uow.models.unpin(pin_reason(erasure_id))
        others_due = bool(uow.erasures.open() or remaining_subjects(uow))
        row = uow.federation.get()
        uow.federation.save(end_without_promotion(row, others_due=others_due))
        if not others_due:
            uow.models.unpin(FALLBACK_PIN)
        uow.commit()
    return cancelled


def _lift(uow: UnitOfWork, name: str) -> None:
    site = uow.sites.get(name)
    failed = [e for e in uow.erasures.of_site(name) if e.state is ErasureState.FAILED]
    if failed:
        newest = max(failed, key=lambda erasure: erasure.requested_at)
        uow.sites.save(fence(site, newest.id))
    else:
        uow.sites.save(lift_fence(site))
