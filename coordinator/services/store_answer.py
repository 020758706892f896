"""Keeps the payload of an erase answer for the calibrator, apart from the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.domain.task import TaskKind
from coordinator.domain.upload import AnswerPurpose, Header, Outcome, Receipt
from coordinator.ports import Store, UnitOfWork
from coordinator.services.live_model import LiveModel
from coordinator.services.receive_upload import repeated
from coordinator.services.site_signatures import SiteSignatures
from letheon.errors import MalformedRequest, UnknownTask
from letheon.federation.parameters import Vector
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach


@dataclass(frozen=True)
class StoreAnswer:
    """The acceptance of `AnswerPurpose`. A fenced site may still send one."""

    store: Store
    live: LiveModel
    clock: Clock
    signatures: SiteSignatures
    max_norm: float | None = None

    def check(self, uow: UnitOfWork, header: Header) -> None:
        """Raises UnknownTask unless the site has this erase task to answer, BadSignature."""
        purpose = _purpose(header)
        task = uow.tasks.get(purpose.task)
        if task.site != purpose.site or task.kind is not TaskKind.ERASE or not task.is_waiting:
            raise UnknownTask(
                f"tasks/{purpose.task} is no open erase task of this site", task=purpose.task
            )
        self.signatures.check(uow, header)

    def accept(self, header: Header, payload: Vector, norm: float) -> Receipt:  # noqa: ARG002 (the calibrator decides what becomes of the values)
        """Binds the stored bytes to the task. Raises as `check`."""
        purpose = _purpose(header)
        with self.store.write() as uow:
            known = uow.receipts.find(header.update_id)
            if known is not None:
                return repeated(known, header)
            self.check(uow, header)
            receipt = Receipt(
                update_id=header.update_id,
                outcome=Outcome.STORED,
                version=self.live.position.version,
                coefficient=0.0,
                staleness=0,
                entry=0,
                ledger_hash="",
                sha256=header.sha256,
                site=purpose.site,
                task=purpose.task,
                size_bytes=header.size_bytes,
                encoding=header.encoding,
                accepted_at=self.clock.now(),
            )
            uow.receipts.add(receipt)
            uow.uploads.remove(header.update_id)
            reach("accept.row_written")
            uow.commit()
        return receipt


def _purpose(header: Header) -> AnswerPurpose:
    if not isinstance(header.purpose, AnswerPurpose):
        raise MalformedRequest("an answer is due", field="purpose")
    return header.purpose
