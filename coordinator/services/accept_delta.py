"""Accepts a training delta: ledger row and receipt in one transaction, then into the head."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coordinator.domain.ledger_rows import follow
from coordinator.domain.site import check_not_fenced, with_accepted_delta
from coordinator.domain.upload import DeltaPurpose, Header, Outcome, Receipt
from coordinator.ports import Meter, Store, UnitOfWork
from coordinator.services.delta_rows import (
    aside_receipt,
    buffered_row,
    delta_receipt,
    waiting_row,
)
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.live_model import Head, LiveModel, Position
from coordinator.services.receive_upload import repeated
from coordinator.services.rounds import Rounds
from coordinator.services.screen_delta import ScreenDelta, Screened
from coordinator.services.site_signatures import SiteSignatures
from letheon.errors import (
    LeadershipLost,
    LetheonError,
    MalformedRequest,
    StaleEpoch,
    StorageUnavailable,
    UnknownModelVersion,
)
from letheon.federation.aggregation.strategy import Offer
from letheon.federation.ledger import Entry, EntryKind
from letheon.federation.parameters import Vector
from letheon.federation.screening import Finding
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach
from letheon.servicekit.together import Together

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 16  # the first of them gets its receipt when the last of them is merged


@dataclass(frozen=True)
class _Offered:
    """A delta [d] that waits for the head."""

    header: Header
    purpose: DeltaPurpose
    payload: Vector
    norm: float  # L2
    screened: Screened


@dataclass(frozen=True)
class _Taken:
    """What was written for a delta: its row, and the flush it brought about."""

    offered: _Offered
    receipt: Receipt
    entries: list[Entry]


@dataclass(frozen=True)
class AcceptDelta:
    """The acceptance of `DeltaPurpose`. Deltas that wait for the head at once share one commit."""

    store: Store
    live: LiveModel
    derived: KeepDerived
    rounds: Rounds
    meter: Meter
    clock: Clock
    max_norm: float | None
    signatures: SiteSignatures
    screening: ScreenDelta
    max_record_count: int | None = None
    _together: Together[_Offered, Receipt] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_together", Together(self._accept_all, most=_MOST_AT_ONCE))

    def check(self, uow: UnitOfWork, header: Header) -> None:
        """Raises UnknownSite, SiteFenced, StaleEpoch, UnknownModelVersion, BadSignature or
        CheckpointBehind.
        """
        self._check(uow, _purpose(header), self.live.position)
        self.signatures.check(uow, header)
        self.derived.check_recoverable()

    def accept(self, header: Header, payload: Vector, norm: float) -> Receipt:
        """Merges, buffers or sets aside. Raises as `check`: the epoch may have moved meanwhile."""
        purpose = _purpose(header)
        # Before the head is held: nobody waits for it.
        screened = self.screening.look(purpose.site, payload, norm, epoch=purpose.epoch)
        return self._together(_Offered(header, purpose, payload, norm, screened))

    def _accept_all(self, offered: Sequence[_Offered]) -> Sequence[Receipt | Exception]:
        """What waited for the head, in one transaction; each alone if that fails."""
        try:
            return self._accept_in_one(offered)
        except (StorageUnavailable, LeadershipLost):
            raise  # whoever asks next hears the same
        except Exception:
            if len(offered) == 1:
                raise
            # One of them spoils it for the others. Those that were committed have a receipt.
            _log.exception("deltas_taken_apart", extra={"deltas": len(offered)})
        return [self._accept_alone(one) for one in offered]

    def _accept_alone(self, one: _Offered) -> Receipt | Exception:
        try:
            return self._accept_in_one([one])[0]
        except Exception as error:  # noqa: BLE001 (it is raised to the sender)
            return error

    def _accept_in_one(self, offered: Sequence[_Offered]) -> list[Receipt | Exception]:
        answers: list[Receipt | Exception] = []
        taken: list[_Taken] = []
        with self.live.exclusive() as head, self.store.write() as uow:
            newest, set_aside = head.newest, list[_Offered]()
            for one in offered:
                try:
                    known = self._known(uow, one, head.position)
                except LetheonError as error:  # nothing was written for it
                    answers.append(error)
                    continue
                if known is not None:
                    answers.append(known)
                elif one.screened.finding.reason and self.screening.holds_back:
                    answers.append(self._set_aside(uow, one, newest))
                    set_aside.append(one)
                else:
                    taken.append(self._take(uow, one, newest))
                    newest = taken[-1].entries[-1]
                    answers.append(taken[-1].receipt)
            if taken:
                self._commit(uow, head, taken)
            elif set_aside:
                uow.commit()
        for each in taken:
            self._tell(each)
        for one in set_aside:
            why = {"update_id": one.header.update_id, "why": one.screened.finding.reason}
            _log.warning("delta_quarantined", extra={"site": one.purpose.site, **why})
        return answers

    def _known(self, uow: UnitOfWork, one: _Offered, position: Position) -> Receipt | None:
        """The receipt of a delta that is known. Raises as `check` if it cannot be accepted."""
        known = uow.receipts.find(one.header.update_id)
        if known is not None:
            return repeated(known, one.header)
        self._check(uow, one.purpose, position)
        self.signatures.check(uow, one.header)
        return None

    def release(
        self, header: Header, payload: Vector, norm: float, mark: Callable[[UnitOfWork, int], None]
    ) -> Receipt:
        """Merges or buffers a delta that was set aside, as if it had come now.

        `mark` is told the entry, inside of the transaction. Raises as `check`.
        """
        purpose = _purpose(header)
        one = _Offered(header, purpose, payload, norm, Screened(Finding(), None))
        with self.live.exclusive() as head, self.store.write() as uow:
            self._check(uow, purpose, head.position)
            mark(uow, head.newest.entry + 1)
            taken = self._take(uow, one, head.newest, released=True)
            self._commit(uow, head, [taken])
        self._tell(taken)
        return taken.receipt

    def _take(
        self, uow: UnitOfWork, one: _Offered, newest: Entry, *, released: bool = False
    ) -> _Taken:
        """Writes what follows `newest`; commits nothing."""
        header, purpose, most = one.header, one.purpose, self.max_record_count
        offer = Offer(
            site=purpose.site,
            staleness=newest.version - purpose.base_version,
            record_count=min(purpose.record_count, most or purpose.record_count),
            norm=one.norm,
        )
        entry = self._entry(header, purpose, offer, newest)
        receipt = delta_receipt(header, purpose, entry)
        if released:
            uow.receipts.replace(receipt)
        else:
            uow.receipts.add(receipt)
        self._write(uow, purpose, offer, entry, receipt)
        self.signatures.keep(uow, entry, header)
        flush = self.rounds.flush_if_ready(uow, entry, at=entry.at)
        return _Taken(one, receipt, [entry] if flush is None else [entry, flush])

    def _commit(self, uow: UnitOfWork, head: Head, taken: Sequence[_Taken]) -> None:
        reach("accept.row_written")
        rows = [entry for one in taken for entry in one.entries]
        head.commit(uow, rows, {one.entries[0].entry: one.offered.payload for one in taken})

    def _tell(self, taken: _Taken) -> None:
        one, receipt, entry = taken.offered, taken.receipt, taken.entries[0]
        site, staleness = one.purpose.site, entry.staleness or 0
        self.screening.accepted(site, one.norm, one.screened, epoch=one.purpose.epoch)
        self.meter.staleness(staleness, site)
        _log.info(
            "delta_accepted",
            extra={
                "site": site,
                "outcome": receipt.outcome.value,
                "entry": entry.entry,
                "version": entry.version,
                "staleness": staleness,
                "norm": one.norm,
                "train_loss": one.purpose.train_loss,
            },
        )

    def _set_aside(self, uow: UnitOfWork, one: _Offered, newest: Entry) -> Receipt:
        header, purpose, now = one.header, one.purpose, self.clock.now()
        receipt = aside_receipt(header, purpose, newest, now)
        uow.receipts.add(receipt)
        uow.uploads.remove(header.update_id)
        uow.federation.count(Outcome.QUARANTINED.value)
        uow.quarantined.add(waiting_row(header, purpose, one.norm, one.screened.finding, now))
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

    def _entry(self, header: Header, purpose: DeltaPurpose, offer: Offer, newest: Entry) -> Entry:
        strategy = self.rounds.strategy
        buffers = strategy.buffers
        return follow(
            newest,
            EntryKind.BUFFERED if buffers else EntryKind.DELTA,
            at=self.clock.now(),
            site=purpose.site,
            update_id=header.update_id,
            base_version=purpose.base_version,
            staleness=offer.staleness,
            coefficient=None if buffers else strategy.coefficients([offer])[0],
            payload_sha256=header.sha256,
            payload_bytes=header.size_bytes,
            encoding=header.encoding,
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
            uow.buffered.add(buffered_row(entry, receipt, offer))


def _purpose(header: Header) -> DeltaPurpose:
    if not isinstance(header.purpose, DeltaPurpose):
        raise MalformedRequest("a delta is due", field="purpose")
    return header.purpose
