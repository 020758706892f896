"""letheon.v1.Ledger."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from coordinator.ports import Store
from coordinator.rpc import convert
from coordinator.services.verify_ledger import Progress, Verdict, VerifyLedger
from letheon.errors import MalformedRequest
from letheon.v1 import ledger_pb2, ledger_pb2_grpc

_DEFAULT_PAGE, _LONGEST_PAGE = 100, 1000
_PAGE_BYTES = 1024 * 1024  # half a message: an anchor names a digest of every site


@dataclass(frozen=True)
class LedgerServicer(ledger_pb2_grpc.LedgerServicer):
    """Reading and verifying the ledger."""

    store: Store
    verify_ledger: VerifyLedger

    def VerifyLedger(
        self, request: ledger_pb2.VerifyLedgerRequest, context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.VerifyLedgerResponse]:
        """Progress, then a verdict."""
        for part in self.verify_ledger():
            match part:
                case Progress():
                    yield ledger_pb2.VerifyLedgerResponse(
                        progress=ledger_pb2.VerifyProgress(done=part.done, total=part.total)
                    )
                case Verdict():
                    yield ledger_pb2.VerifyLedgerResponse(verdict=_verdict(part))

    def ListEntries(
        self, request: ledger_pb2.ListEntriesRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.ListEntriesResponse:
        """A page of rows."""
        if request.first < 0 or not 0 <= request.page_size <= _LONGEST_PAGE:
            raise MalformedRequest(
                f"first is at least 0, page_size 1 to {_LONGEST_PAGE}", field="page_size"
            )
        with self.store.read() as uow:
            rows = uow.entries.page(request.first, request.page_size or _DEFAULT_PAGE)
            signed = uow.signatures.between(rows[0].entry, rows[-1].entry) if rows else {}
        page, size = ledger_pb2.ListEntriesResponse(), 0
        for row in rows:
            message = convert.entry(row, signed.get(row.entry))
            size += message.ByteSize()
            if page.entries and size > _PAGE_BYTES:
                break
            page.entries.append(message)
        return page


def _verdict(found: Verdict) -> ledger_pb2.LedgerVerdict:
    message = ledger_pb2.LedgerVerdict(
        holds=found.holds,
        entries=found.entries,
        replayed_from=found.replayed_from,
        version=found.version,
        sha256_replayed=found.sha256_replayed,
        sha256_head=found.sha256_head,
        reason=found.reason,
        signed_deltas=found.signed,
        unsigned_deltas=found.unsigned,
    )
    if found.first_bad_entry is not None:
        message.first_bad_entry = found.first_bad_entry
    return message
