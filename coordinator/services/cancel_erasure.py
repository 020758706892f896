"""Withdraws a request and lifts the fence. Possible until the removal."""

from __future__ import annotations

from coordinator.domain.erasure import Erasure, ErasureState, cancel
from coordinator.domain.serving import end_without_promotion
from coordinator.domain.site import lift_fence
from coordinator.services.erasure_context import ErasureContext, pin_reason
from coordinator.services.request_erasure import FALLBACK_PIN
from coordinator.services.withdraw_tasks import withdraw_tasks


def cancel_erasure(erasure_id: str, context: ErasureContext) -> Erasure:
    """The cancelled erasure. Idempotent.

    Raises UnknownErasure; ErasureNotCancellable after the removal.
    """
    now = context.clock.now()
    with context.store.write() as uow:
        erasure = uow.erasures.get(erasure_id)
        cancelled = cancel(erasure, now)
        if erasure.state is ErasureState.CANCELLED:
            return erasure
        uow.erasures.save(cancelled)
        uow.sites.save(lift_fence(uow.sites.get(erasure.site)))
        withdraw_tasks(uow, erasure_id, now)
        uow.models.unpin(pin_reason(erasure_id))
        another_open = any(other.id != erasure_id for other in uow.erasures.open())
        row = uow.federation.get()
        uow.federation.save(end_without_promotion(row, another_open=another_open))
        if not another_open:
            uow.models.unpin(FALLBACK_PIN)
        uow.commit()
    return cancelled
