"""What is written down for a delta beside its row of the ledger."""

from __future__ import annotations

from datetime import datetime

from coordinator.domain.model import BufferedDelta
from coordinator.domain.quarantine import QuarantinedDelta, QuarantineState
from coordinator.domain.upload import DeltaPurpose, Header, Outcome, Receipt
from letheon.federation.aggregation.strategy import Offer
from letheon.federation.ledger import Entry, EntryKind
from letheon.federation.screening import Finding
from letheon.servicekit.signing import signature_text


def delta_receipt(header: Header, purpose: DeltaPurpose, entry: Entry) -> Receipt:
    """Of a delta that was merged or waits in the buffer."""
    merged = entry.kind is EntryKind.DELTA
    return Receipt(
        update_id=header.update_id,
        outcome=Outcome.MERGED if merged else Outcome.BUFFERED,
        version=entry.version,
        coefficient=entry.coefficient or 0.0,
        staleness=entry.staleness or 0,
        entry=entry.entry,
        ledger_hash=entry.hash,
        sha256=header.sha256,
        site=purpose.site,
        task=None,
        size_bytes=header.size_bytes,
        encoding=header.encoding,
        accepted_at=entry.at,
    )


def buffered_row(entry: Entry, receipt: Receipt, offer: Offer) -> BufferedDelta:
    """Of a delta that waits in the buffer."""
    return BufferedDelta(
        entry=entry.entry,
        site=offer.site,
        staleness=offer.staleness,
        record_count=offer.record_count,
        norm=offer.norm,
        payload_sha256=receipt.sha256,
        encoding=receipt.encoding,
    )


def aside_receipt(header: Header, purpose: DeltaPurpose, newest: Entry, now: datetime) -> Receipt:
    """Of a delta that screening set aside: it has no row of the ledger."""
    return Receipt(
        update_id=header.update_id,
        outcome=Outcome.QUARANTINED,
        version=newest.version,
        coefficient=0.0,
        staleness=newest.version - purpose.base_version,
        entry=0,
        ledger_hash="",
        sha256=header.sha256,
        site=purpose.site,
        task=None,
        size_bytes=header.size_bytes,
        encoding=header.encoding,
        accepted_at=now,
    )


def waiting_row(
    header: Header, purpose: DeltaPurpose, norm: float, finding: Finding, now: datetime
) -> QuarantinedDelta:
    """Of a delta that waits for the operator."""
    signature = header.signature
    return QuarantinedDelta(
        update_id=header.update_id,
        site=purpose.site,
        task=purpose.task,
        base_version=purpose.base_version,
        epoch=purpose.epoch,
        exclusion_counter=purpose.exclusion_counter,
        record_count=purpose.record_count,
        train_loss=purpose.train_loss,
        norm=norm,
        norm_ratio=finding.norm_ratio,
        cosine=finding.cosine,
        finding=finding.reason,
        payload_sha256=header.sha256,
        payload_bytes=header.size_bytes,
        encoding=header.encoding,
        state=QuarantineState.WAITING,
        arrived_at=now,
        key_id="" if signature is None else signature.key_id,
        signature="" if signature is None else signature_text(signature.signature),
    )
