"""Accepts a training delta: ledger row and receipt in one transaction, then into the head."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import BufferedDelta
from coordinator.domain.site import check_not_fenced, with_accepted_delta
from coordinator.domain.upload import DeltaPurpose, Header, Outcome, Receipt
from coordinator.ports import Meter, Store, UnitOfWork
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.live_model import Head, LiveModel, Position
from coordinator.services.receive_upload import repeated
from coordinator.services.rounds import Rounds
from letheon.errors import MalformedRequest, StaleEpoch, UnknownModelVersion
from letheon.federation.aggregation.strategy import Offer
from letheon.federation.ledger import Entry, EntryKind
from letheon.federation.parameters import Vector
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AcceptDelta:
    """The acceptance of `DeltaPurpose`."""

    store: Store
    live: LiveModel
    derived: KeepDerived
    rounds: Rounds
    meter: Meter
    clock: Clock
    encoding: str
    max_norm: float | None

    def check(self, uow: UnitOfWork, header: Header) -> None:
        """Raises UnknownSite, SiteFenced, StaleEpoch, UnknownModelVersion or CheckpointBehind."""
        self._check(uow, _purpose(header), self.live.position)
        self.derived.check_recoverable()

    def accept(self, header: Header, payload: Vector, norm: float) -> Receipt:
        """Merges or buffers the delta. Raises as `check`: the epoch may have moved meanwhile."""
        purpose = _purpose(header)
        with self.live.exclusive() as head, self.store.write() as uow:
            known = uow.receipts.find(header.update_id)
            if known is not None:
                return repeated(known, header)
            self._check(uow, purpose, head.position)
            offer = Offer(
                site=purpose.site,
                staleness=head.newest.version - purpose.base_version,
                record_count=purpose.record_count,
                norm=norm,
            )
            entry = self._entry(header, purpose, offer, head)
            receipt = _receipt(header, purpose, entry, self.encoding)
            self._write(uow, purpose, offer, entry, receipt)
            flush = self.rounds.flush_if_ready(uow, entry, at=entry.at)
            reach("accept.row_written")
            entries = [entry] if flush is None else [entry, flush]
            head.commit(uow, entries, {entry.entry: payload})
        self.meter.staleness(offer.staleness)
        _log.info(
            "delta_accepted",
            extra={
                "site": purpose.site,
                "outcome": receipt.outcome.value,
                "entry": entry.entry,
                "version": entry.version,
                "staleness": offer.staleness,
                "norm": norm,
                "train_loss": purpose.train_loss,
            },
        )
        return receipt

    def _check(self, uow: UnitOfWork, purpose: DeltaPurpose, position: Position) -> None:
        site = uow.sites.get(purpose.site)
        check_not_fenced(site)
        if purpose.epoch != position.epoch:
            raise StaleEpoch(
                f"the task began in epoch {purpose.epoch}, now is {position.epoch}",
                epoch=position.epoch,
            )
        if purpose.exclusion_counter < site.exclusion_counter:
            raise StaleEpoch(
                "records of this site were excluded since the task began", epoch=position.epoch
            )
        if not position.epoch_first_version <= purpose.base_version <= position.version:
            raise UnknownModelVersion(
                f"base models/{purpose.base_version} is not one of epoch {position.epoch} "
                f"({position.epoch_first_version} to {position.version})",
                version=purpose.base_version,
            )
        if purpose.record_count < 0:
            raise MalformedRequest("record_count is negative", field="record_count")

    def _entry(self, header: Header, purpose: DeltaPurpose, offer: Offer, head: Head) -> Entry:
        strategy = self.rounds.strategy
        buffers = strategy.buffers
        return follow(
            head.newest,
            EntryKind.BUFFERED if buffers else EntryKind.DELTA,
            at=self.clock.now(),
            site=purpose.site,
            update_id=header.update_id,
            base_version=purpose.base_version,
            staleness=offer.staleness,
            coefficient=None if buffers else strategy.coefficients([offer])[0],
            payload_sha256=header.sha256,
            payload_bytes=header.size_bytes,
            encoding=self.encoding,
            details={
                "task": purpose.task,
                "record_count": offer.record_count,
                "norm": offer.norm,
            },
        )

    def _write(
        self,
        uow: UnitOfWork,
        purpose: DeltaPurpose,
        offer: Offer,
        entry: Entry,
        receipt: Receipt,
    ) -> None:
        uow.entries.add(entry)
        uow.receipts.add(receipt)
        uow.uploads.remove(receipt.update_id)
        merged = receipt.outcome is Outcome.MERGED
        site = uow.sites.get(purpose.site)
        uow.sites.save(
            with_accepted_delta(
                site,
                version=entry.version if merged else None,
                record_count=purpose.record_count,
            )
        )
        uow.federation.count("accepted" if merged else "buffered")
        if not merged:
            uow.buffered.add(
                BufferedDelta(
                    entry=entry.entry,
                    site=purpose.site,
                    staleness=offer.staleness,
                    record_count=offer.record_count,
                    norm=offer.norm,
                    payload_sha256=receipt.sha256,
                    encoding=receipt.encoding,
                )
            )


def _purpose(header: Header) -> DeltaPurpose:
    if not isinstance(header.purpose, DeltaPurpose):
        raise MalformedRequest("a delta is due", field="purpose")
    return header.purpose


def _receipt(header: Header, purpose: DeltaPurpose, entry: Entry, encoding: str) -> Receipt:
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
        encoding=encoding,
        accepted_at=entry.at,
    )
