"""Accepts a patch of the calibrator: added to the head, never swapped in."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.domain.claim import check_token
from coordinator.domain.erasure import Erasure, Exchange, check_open
from coordinator.domain.ledger_rows import follow
from coordinator.domain.site import check_stays, in_version
from coordinator.domain.upload import Header, Outcome, PatchKind, PatchPurpose, Receipt
from coordinator.ports import Meter, Store, UnitOfWork
from coordinator.services import add_exchange
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.live_model import Head, LiveModel, Position
from coordinator.services.receive_upload import repeated
from coordinator.services.remaining_subjects import check_none_due, sites_with_records_due
from letheon.errors import MalformedRequest, MalformedUpdate, PatchVoid, UnknownModelVersion
from letheon.federation.exchange import check_cap
from letheon.federation.ledger import Entry, EntryKind
from letheon.federation.parameters import Vector
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_log = logging.getLogger(__name__)
_ROW = {PatchKind.PATCH: EntryKind.PATCH, PatchKind.CALIBRATION: EntryKind.CALIBRATION}
_ROUNDING = 1e-4  # a patch scaled to the cap in float16 may exceed it by its rounding


@dataclass(frozen=True)
class AcceptPatch:
    """The acceptance of `PatchPurpose`."""

    store: Store
    live: LiveModel
    derived: KeepDerived
    meter: Meter
    clock: Clock
    cap_ratio: float  # |patch| against the norm of the removed contribution
    epoch_share: float  # |patch| of an exchange against C_k, above which a new epoch begins
    max_norm: float | None = None

    def check(self, uow: UnitOfWork, header: Header) -> None:
        """Raises UnknownErasure, ErasureConcluded, ClaimLost, PatchVoid, UnknownModelVersion;
        UnknownSite, for a patch made of a site's contribution; CheckpointBehind.
        """
        self._check(uow, _purpose(header), self.live.position)
        self.derived.check_recoverable()

    def accept(self, header: Header, payload: Vector, norm: float) -> Receipt:
        """Adds the patch. Raises as `check`, or MalformedUpdate(rule=cap)."""
        purpose = _purpose(header)
        with self.live.exclusive() as head, self.store.write() as uow:
            known = uow.receipts.find(header.update_id)
            if known is not None:
                return repeated(known, header)
            erasure = self._check(uow, purpose, head.position)
            self._check_cap(erasure, purpose, norm)
            rows = self._rows(header, purpose, erasure, norm, head)
            entry = rows[-1]
            for row in rows:
                uow.entries.add(row)
            exchange = _due_exchange(erasure)
            if exchange is not None:
                add_exchange.exchanged(uow, erasure, exchange, head, entry, payload)
            receipt = _receipt(header, entry)
            uow.receipts.add(receipt)
            uow.uploads.remove(header.update_id)
            uow.federation.count("patched")
            if purpose.site is not None:
                uow.sites.save(in_version(uow.sites.get(purpose.site), entry.version))
            reach("accept.row_written")
            head.commit(uow, rows, {entry.entry: payload})
        _log.info(
            "patch_added",
            extra={"erasure": purpose.erasure, "kind": purpose.kind.value, "entry": entry.entry},
        )
        return receipt

    def _rows(
        self, header: Header, purpose: PatchPurpose, erasure: Erasure, norm: float, head: Head
    ) -> list[Entry]:
        """The row of the patch, after the one that begins an epoch if an exchange needs one."""
        now, exchange = self.clock.now(), _due_exchange(erasure)
        began, details = None, {}
        if exchange is not None:
            began = add_exchange.epoch_row(head, erasure, exchange, norm, self.epoch_share, now)
            details = add_exchange.exchange_details(erasure, exchange)
        entry = follow(
            began or head.newest,
            _ROW[purpose.kind],
            at=now,
            site=purpose.site,
            update_id=header.update_id,
            base_version=purpose.base_version,
            staleness=head.newest.version - purpose.base_version,
            coefficient=1.0,
            payload_sha256=header.sha256,
            payload_bytes=header.size_bytes,
            encoding=header.encoding,
            details={"erasure": purpose.erasure, "norm": norm, **details},
        )
        return [entry] if began is None else [began, entry]

    def _check(self, uow: UnitOfWork, purpose: PatchPurpose, position: Position) -> Erasure:
        erasure = uow.erasures.get(purpose.erasure)
        check_open(erasure)
        check_token(
            uow.claims.find(purpose.erasure), erasure=purpose.erasure, token=purpose.fencing_token
        )
        exchanging = not erasure.names_site and erasure.removal is None
        if exchanging:
            site = uow.sites.get(erasure.site)
            add_exchange.check_exchange(erasure, purpose, site, position)
        elif erasure.removal is None or purpose.epoch != position.epoch:
            raise PatchVoid(
                f"the patch is of epoch {purpose.epoch}, now is {position.epoch}: "
                "start over from a new snapshot",
                epoch=position.epoch,
            )
        if not position.epoch_first_version <= purpose.base_version <= position.version:
            raise UnknownModelVersion(
                f"base models/{purpose.base_version} is not one of epoch {position.epoch}",
                version=purpose.base_version,
            )
        if purpose.site is not None and not exchanging:
            check_stays(uow.sites.get(purpose.site))
            check_none_due(purpose.site, sites_with_records_due(uow))
        return erasure

    def _check_cap(self, erasure: Erasure, purpose: PatchPurpose, norm: float) -> None:
        if purpose.kind is PatchKind.PATCH and erasure.removal is None and erasure.exchange:
            check_cap(
                norm,
                contribution_norm=erasure.exchange.contribution_norm,
                ratio=self.cap_ratio,
            )
        if purpose.kind is not PatchKind.PATCH or erasure.removal is None:
            return
        cap = self.cap_ratio * erasure.removal.contribution_norm
        if norm > cap * (1 + _ROUNDING):
            raise MalformedUpdate(
                f"the patch has L2 norm {norm:.6g}; {cap:.6g} is allowed "
                f"({self.cap_ratio:g} of the removed contribution)",
                rule="cap",
                tensor="*",
            )


def _due_exchange(erasure: Erasure) -> Exchange | None:
    return erasure.exchange if erasure.removal is None else None


def _purpose(header: Header) -> PatchPurpose:
    if not isinstance(header.purpose, PatchPurpose):
        raise MalformedRequest("a patch is due", field="purpose")
    return header.purpose


def _receipt(header: Header, entry: Entry) -> Receipt:
    return Receipt(
        update_id=header.update_id,
        outcome=Outcome.MERGED,
        version=entry.version,
        coefficient=1.0,
        staleness=entry.staleness or 0,
        entry=entry.entry,
        ledger_hash=entry.hash,
        sha256=header.sha256,
        site=None,
        task=None,
        size_bytes=header.size_bytes,
        encoding=header.encoding,
        accepted_at=entry.at,
    )
