"""What the operator does with a delta that screening set aside: merges it after all, or rejects."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.domain.quarantine import QuarantinedDelta, QuarantineState, decided
from coordinator.domain.upload import DeltaPurpose, Header, Receipt
from coordinator.ports import Blobs, Store, UnitOfWork
from coordinator.services.accept_delta import AcceptDelta
from letheon.errors import MalformedRequest
from letheon.federation.encoding import decode
from letheon.proof.update_signature import UpdateSignature
from letheon.servicekit.signing import read_signature

_log = logging.getLogger(__name__)
_REASON_LIMIT = 500


@dataclass(frozen=True)
class DecideQuarantined:
    """The use cases of ReleaseUpdate and RejectUpdate. Repeating the same decision is harmless."""

    store: Store
    blobs: Blobs
    deltas: AcceptDelta

    def release(self, update_id: str, reason: str) -> tuple[QuarantinedDelta, Receipt]:
        """Merges it with the coefficient that it gets now.

        Raises UnknownUpdate; UpdateDecided after another decision; SiteFenced, StaleEpoch or
        UnknownModelVersion if it can never be merged any more, and then it may be rejected.
        """
        _check_reason(reason)
        with self.store.read() as uow:
            delta = uow.quarantined.get(update_id)
            known = uow.receipts.find(update_id)
        if delta.state is QuarantineState.RELEASED and known is not None:
            return delta, known
        clock = self.deltas.clock
        decided(delta, QuarantineState.RELEASED, clock.now())
        payload = decode(self.blobs.payloads.get(delta.payload_sha256), delta.encoding)

        def mark(uow: UnitOfWork, entry: int) -> None:
            newest = uow.quarantined.get(update_id)
            state = QuarantineState.RELEASED
            released = decided(newest, state, clock.now(), decision=reason, entry=entry)
            uow.quarantined.save(released)

        receipt = self.deltas.release(_header(delta), payload, delta.norm, mark)
        _log.warning("quarantined_released", extra={"update_id": update_id, "entry": receipt.entry})
        with self.store.read() as uow:
            return uow.quarantined.get(update_id), receipt

    def reject(self, update_id: str, reason: str) -> QuarantinedDelta:
        """Destroys its payload; the row stays. Raises UnknownUpdate or UpdateDecided."""
        _check_reason(reason)
        with self.store.write() as uow:
            delta = uow.quarantined.get(update_id)
            if delta.state is not QuarantineState.REJECTED:
                now = self.deltas.clock.now()
                delta = decided(delta, QuarantineState.REJECTED, now, decision=reason)
                uow.quarantined.save(delta)
            sha256 = delta.payload_sha256
            is_named = uow.entries.names_payload(sha256) or uow.receipts.stores(sha256)
            is_named = is_named or uow.quarantined.keeps(sha256)
            uow.commit()
        if not is_named:
            # Not if it was stored anew within the hour: then the sweep decides.
            self.blobs.payloads.destroy_orphan(sha256)
        _log.warning("quarantined_rejected", extra={"update_id": update_id})
        return delta


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > _REASON_LIMIT:
        raise MalformedRequest(
            f"a decision needs a reason of 1 to {_REASON_LIMIT} characters", field="reason"
        )


def _header(delta: QuarantinedDelta) -> Header:
    purpose = DeltaPurpose(
        site=delta.site,
        task=delta.task,
        base_version=delta.base_version,
        epoch=delta.epoch,
        exclusion_counter=delta.exclusion_counter,
        record_count=delta.record_count,
        train_loss=delta.train_loss,
    )
    return Header(
        update_id=delta.update_id,
        size_bytes=delta.payload_bytes,
        sha256=delta.payload_sha256,
        offset=0,
        layout=(("*", (), delta.encoding),),  # checked when it arrived; only the encoding counts
        purpose=purpose,
        signature=UpdateSignature(delta.key_id, read_signature(delta.signature))
        if delta.signature
        else None,
    )
