"""Accepts a patch of the calibrator: added to the head, never swapped in."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.domain.claim import check_token
from coordinator.domain.erasure import Erasure, check_open
from coordinator.domain.ledger_rows import follow
from coordinator.domain.site import check_stays, in_version
from coordinator.domain.upload import Header, Outcome, PatchKind, PatchPurpose, Receipt
from coordinator.ports import Meter, Store, UnitOfWork
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.live_model import LiveModel, Position
from coordinator.services.receive_upload import repeated
from letheon.errors import MalformedRequest, MalformedUpdate, PatchVoid, UnknownModelVersion
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
    encoding: str
    cap_ratio: float  # |patch| against the norm of the removed contribution
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
            entry = follow(
                head.newest,
                _ROW[purpose.kind],
                at=self.clock.now(),
                site=purpose.site,
                update_id=header.update_id,
                base_version=purpose.base_version,
                staleness=head.newest.version - purpose.base_version,
                coefficient=1.0,
                payload_sha256=header.sha256,
                payload_bytes=header.size_bytes,
                encoding=self.encoding,
                details={"erasure": purpose.erasure, "norm": norm},
            )
            receipt = _receipt(header, entry, self.encoding)
            uow.entries.add(entry)
            uow.receipts.add(receipt)
            uow.uploads.remove(header.update_id)
            uow.federation.count("patched")
            if purpose.site is not None:
                uow.sites.save(in_version(uow.sites.get(purpose.site), entry.version))
            reach("accept.row_written")
            head.commit(uow, [entry], {entry.entry: payload})
        _log.info(
            "patch_added",
            extra={"erasure": purpose.erasure, "kind": purpose.kind.value, "entry": entry.entry},
        )
        return receipt

    def _check(self, uow: UnitOfWork, purpose: PatchPurpose, position: Position) -> Erasure:
        erasure = uow.erasures.get(purpose.erasure)
        check_open(erasure)
        check_token(
            uow.claims.find(purpose.erasure), erasure=purpose.erasure, token=purpose.fencing_token
        )
        if erasure.removal is None or purpose.epoch != position.epoch:
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
        if purpose.site is not None:
            check_stays(uow.sites.get(purpose.site))
        return erasure

    def _check_cap(self, erasure: Erasure, purpose: PatchPurpose, norm: float) -> None:
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


def _purpose(header: Header) -> PatchPurpose:
    if not isinstance(header.purpose, PatchPurpose):
        raise MalformedRequest("a patch is due", field="purpose")
    return header.purpose


def _receipt(header: Header, entry: Entry, encoding: str) -> Receipt:
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
        encoding=encoding,
        accepted_at=entry.at,
    )
