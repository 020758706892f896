"""Records that somebody takes a copy of the serving version."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.domain.model import Export
from coordinator.ports import Store, UnitOfWork
from coordinator.services import audit
from letheon.errors import ExportSuspended, MalformedRequest, NoServingModel, RequestAltered
from letheon.names import export_name, model_name
from letheon.servicekit.clock import Clock


def check_recipient(recipient: str) -> None:
    """Raises MalformedRequest if nobody is named."""
    if not recipient.strip():
        raise MalformedRequest("recipient is empty: who takes the copy?", field="recipient")


def recorded(
    uow: UnitOfWork, request_id: str, *, recipient: str, purpose: str, without: list[str]
) -> Export | None:
    """The export of an earlier call, or None. Raises RequestAltered if that one differs."""
    known = uow.exports.find(request_id)
    if known is None:
        return None
    if (known.recipient, known.purpose, known.without) != (recipient, purpose, without):
        raise RequestAltered(
            f"exports/{request_id} names another recipient, purpose or choice of sites",
            request_id=request_id,
        )
    return known


@dataclass(frozen=True)
class ExportModel:
    """The use case of ExportModel."""

    store: Store
    clock: Clock

    def __call__(self, request_id: str, *, recipient: str, purpose: str) -> Export:
        """The export, the first one if repeated.

        Raises MalformedRequest, RequestAltered, NoServingModel or ExportSuspended.
        """
        check_recipient(recipient)
        with self.store.write() as uow:
            known = recorded(uow, request_id, recipient=recipient, purpose=purpose, without=[])
            if known is not None:
                return known
            row = uow.federation.get()
            if row.serving_version is None:
                raise NoServingModel("the serving policy offers no version at present")
            if row.serving_carries_subject:
                raise ExportSuspended(
                    "an erasure is open and the serving version still carries its subject"
                )
            made = Export(request_id, row.serving_version, recipient, purpose, self.clock.now())
            uow.exports.add(made)
            audit.record(
                uow,
                made.exported_at,
                "model.exported",
                model_name(made.version),
                export=export_name(request_id),
                recipient=recipient,
            )
            uow.commit()
        return made
