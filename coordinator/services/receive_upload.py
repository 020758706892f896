"""Receives a payload in one or several streams and hands it whole to what accepts it.

The header is checked before a byte is taken. What a cut stream left is durable and kept; what
breaks a rule, or can never be accepted any more, is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from coordinator.domain.upload import (
    AnswerPurpose,
    DeltaPurpose,
    Header,
    Purpose,
    Receipt,
    Upload,
    check_same_bytes,
)
from coordinator.ports import Meter, Staging, StagingArea, Store, UnitOfWork
from coordinator.services.payloads_in_flight import PayloadsInFlight
from coordinator.services.transfer_slots import TransferSlots
from letheon.errors import (
    BadSignature,
    ClaimLost,
    DigestMismatch,
    LetheonError,
    MalformedUpdate,
    OffsetMismatch,
    PatchVoid,
    SiteFenced,
    StaleEpoch,
    UpdateAltered,
)
from letheon.federation.encoding import decode, size_limits
from letheon.federation.parameters import Layout, Vector
from letheon.federation.validation import check_layout, check_values
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

# What a refusal is counted as; other errors are the caller's business alone.
_COUNTED: tuple[tuple[type[LetheonError], str], ...] = (
    (MalformedUpdate, "rejected"),
    (DigestMismatch, "rejected"),
    (UpdateAltered, "rejected"),
    (BadSignature, "rejected"),
    (StaleEpoch, "superseded"),
    (SiteFenced, "fenced"),
)
# Of the errors that name no rule themselves.
_RULES: Mapping[type[LetheonError], str] = {DigestMismatch: "digest", UpdateAltered: "altered"}
# After these the bytes at hand are of no use to anyone, and no row names them.
FINAL = (MalformedUpdate, DigestMismatch, StaleEpoch, SiteFenced, PatchVoid, ClaimLost)


class Acceptance(Protocol):
    """What becomes of a payload, by purpose."""

    @property
    def max_norm(self) -> float | None:
        """Largest L2 norm a payload may have, or None."""
        ...

    def check(self, uow: UnitOfWork, header: Header) -> None:
        """Raises if a payload with this header could not be accepted now."""
        ...

    def accept(self, header: Header, payload: Vector, norm: float) -> Receipt:
        """Checks again and accepts, in one transaction. The bytes are durable by now.

        `payload` is decoded [d], finite, its L2 norm `norm`.
        """
        ...


def sender(purpose: Purpose) -> str | None:
    """The site that sends, or None for the calibrator."""
    return purpose.site if isinstance(purpose, DeltaPurpose | AnswerPurpose) else None


@dataclass(frozen=True)
class ReceiveUpload:
    """The use case of PushDelta and QueryUpload."""

    store: Store
    staging: StagingArea
    in_flight: PayloadsInFlight
    acceptances: Mapping[type[Purpose], Acceptance]
    slots: TransferSlots
    meter: Meter
    clock: Clock
    layout: Layout
    encodings: Mapping[type[Purpose], Sequence[str]]  # the first is the usual one

    def query(self, update_id: str, site: str | None) -> Receipt | int:
        """The receipt, or how many bytes are durable. Raises UnknownSite."""
        with self.store.read() as uow:
            if site is not None:
                uow.sites.get(site)
            receipt = uow.receipts.find(update_id)
        if receipt is not None and receipt.site == site:
            return receipt
        return self.staging.committed_bytes(update_id)

    def receive(self, header: Header, chunks: Callable[[int], Iterator[bytes]]) -> Receipt | int:
        """One stream: the receipt once the payload is whole, else the durable size.

        `chunks(offset)` yields the checked data of the stream from that offset on.
        Raises what PushDelta documents.
        """
        try:
            known = self._check(header)
            if known is not None:
                return known
            with (
                self.slots.take(sender(header.purpose), header.size_bytes),
                self.staging.open(header.update_id, header.size_bytes) as staging,
            ):
                return self._receive(header, staging, chunks)
        except LetheonError as error:
            self._count(error, sender(header.purpose))
            if isinstance(error, FINAL):
                self._forget(header)
            raise

    def _check(self, header: Header) -> Receipt | None:
        acceptance = self.acceptances[type(header.purpose)]
        site = sender(header.purpose)
        with self.store.read() as uow:
            if site is not None:
                uow.sites.get(site)
            receipt = uow.receipts.find(header.update_id)
            if receipt is not None:
                return repeated(receipt, header)
            acceptance.check(uow, header)
            upload = uow.uploads.find(header.update_id)
        allowed = self.encodings[type(header.purpose)]
        encoding = check_layout(header.layout, self.layout, allowed)
        least, most = size_limits(self.layout, encoding)
        if not least <= header.size_bytes <= most:
            due = f"{most}" if least == most else f"{least} to {most}"
            raise MalformedUpdate(
                f"the payload has {header.size_bytes} bytes, the plan's layout {due}", rule="size"
            )
        if upload is None:
            self._begin(header, header.purpose.site)  # whose erasure drops it
        else:
            check_same_upload(upload, header)
        return None

    def _begin(self, header: Header, site: str | None) -> None:
        # A power cut may lose this row: the sweep then drops the file, and the upload begins anew.
        with self.store.note() as uow:
            upload = uow.uploads.find(header.update_id)
            if upload is not None:
                check_same_bytes(header.update_id, known_sha256=upload.sha256, sha256=header.sha256)
                return
            now = self.clock.now()
            uow.uploads.add(Upload(header.update_id, header.sha256, header.size_bytes, site, now))
            uow.commit()
        reach("accept.begun")

    def _receive(
        self, header: Header, staging: Staging, chunks: Callable[[int], Iterator[bytes]]
    ) -> Receipt | int:
        if header.offset != staging.size_bytes:
            raise OffsetMismatch(
                f"the stream begins at {header.offset}, the durable bytes end at "
                f"{staging.size_bytes}",
                committed_bytes=staging.size_bytes,
            )
        with self.meter.stage("receive"), self._counted(staging, sender(header.purpose)):
            for data in chunks(header.offset):
                if staging.size_bytes + len(data) > header.size_bytes:
                    raise MalformedUpdate("more bytes than the header promised", rule="size")
                staging.append(data)
            staging.sync()
        reach("accept.received")
        if staging.size_bytes < header.size_bytes:
            return staging.size_bytes
        with self.meter.stage("validate"):
            if staging.digest() != header.sha256:
                raise DigestMismatch(
                    "the payload is not the one its header promised", update_id=header.update_id
                )
            payload = decode(staging.view(), header.encoding, self.layout.size)
            acceptance = self.acceptances[type(header.purpose)]
            norm = check_values(payload, self.layout, acceptance.max_norm)
        reach("accept.validated")
        with self.in_flight.published(staging, header.sha256):
            receipt = acceptance.accept(header, payload, norm)
        self.meter.update(receipt.outcome, sender(header.purpose))
        reach("accept.answered")
        return receipt

    @contextmanager
    def _counted(self, staging: Staging, site: str | None) -> Iterator[None]:
        """Counts what arrived, also when the stream is cut."""
        before = staging.size_bytes
        try:
            yield
        finally:
            if site is not None:
                self.meter.received(staging.size_bytes - before, site)

    def _count(self, error: LetheonError, site: str | None) -> None:
        for kind, outcome in _COUNTED:
            if isinstance(error, kind):
                self.meter.update(outcome, site)
                if outcome == "rejected":
                    self.meter.rejected(_RULES.get(kind) or error.facts.get("rule", ""))
                with self.store.note() as uow:
                    uow.federation.count(outcome)
                    uow.commit()

    def _forget(self, header: Header) -> None:
        with self.store.write() as uow:
            upload = uow.uploads.find(header.update_id)
            # A header with other bytes, or of another site, must not discard the upload that it
            # collides with.
            if upload is None or (upload.sha256, upload.site) != _bytes_and_site(header):
                return
            uow.uploads.remove(header.update_id)
            uow.commit()
        self.staging.discard(header.update_id)


def _bytes_and_site(header: Header) -> tuple[str, str | None]:
    return header.sha256, header.purpose.site


def check_same_upload(upload: Upload, header: Header) -> None:
    """Raises UpdateAltered unless the upload was begun with these bytes, for this site."""
    check_same_bytes(header.update_id, known_sha256=upload.sha256, sha256=header.sha256)
    if upload.site != header.purpose.site:
        raise UpdateAltered(
            f"update {header.update_id} was begun by another; use a new id",
            update_id=header.update_id,
        )


def repeated(receipt: Receipt, header: Header) -> Receipt:
    """The first receipt, for the same sender and bytes. Raises UpdateAltered otherwise."""
    check_same_bytes(header.update_id, known_sha256=receipt.sha256, sha256=header.sha256)
    if receipt.site != sender(header.purpose):
        raise UpdateAltered(
            f"update {header.update_id} was sent by another; use a new id",
            update_id=header.update_id,
        )
    return receipt
