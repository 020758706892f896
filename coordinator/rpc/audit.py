"""letheon.v1.Audit."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

import json
from dataclasses import dataclass

import grpc

from coordinator.ports import Store
from coordinator.rpc.convert import timestamp
from letheon.errors import MalformedRequest
from letheon.proof.audit_chain import AuditRow
from letheon.v1 import audit_pb2, audit_pb2_grpc

_DEFAULT_PAGE, _LONGEST_PAGE = 100, 1000
_PAGE_BYTES = 1024 * 1024  # half a message


@dataclass(frozen=True)
class AuditServicer(audit_pb2_grpc.AuditServicer):
    """Reading the audit log."""

    store: Store

    def ListAuditRows(
        self, request: audit_pb2.ListAuditRowsRequest, context: grpc.ServicerContext
    ) -> audit_pb2.ListAuditRowsResponse:
        """A page of rows."""
        if request.first < 0 or not 0 <= request.page_size <= _LONGEST_PAGE:
            raise MalformedRequest(
                f"first is at least 0, page_size 1 to {_LONGEST_PAGE}", field="page_size"
            )
        with self.store.read() as uow:
            rows = uow.audit.page(request.first, request.page_size or _DEFAULT_PAGE)
        page, size = audit_pb2.ListAuditRowsResponse(), 0
        for row in rows:
            message = _message(row)
            size += message.ByteSize()
            if page.rows and size > _PAGE_BYTES:
                break
            page.rows.append(message)
        return page


def _message(row: AuditRow) -> audit_pb2.AuditRow:
    return audit_pb2.AuditRow(
        number=row.number,
        at=timestamp(row.at),
        role=row.role,
        caller=row.caller,
        serial=row.serial,
        action=row.action,
        object=row.object,
        outcome=row.outcome,
        details_json=json.dumps(dict(row.details), sort_keys=True),
        canonical_json=row.canonical().decode(),
        hash=row.hash,
    )
