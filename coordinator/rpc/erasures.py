"""letheon.v1.Erasures."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from coordinator.domain.erasure import Erasure
from coordinator.rpc import convert_erasures as convert
from coordinator.services.approve_erasure import approve_erasure
from coordinator.services.cancel_erasure import cancel_erasure
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.request_erasure import request_erasure
from letheon.names import erasure_id
from letheon.v1 import erasures_pb2, erasures_pb2_grpc


def message_of(value: Erasure, setting: ErasureContext) -> erasures_pb2.Erasure:
    """An erasure with its attempts and holder, on the wire."""
    with setting.store.read() as uow:
        return convert.erasure(value, uow.attempts.of(value.id), uow.claims.find(value.id))


@dataclass(frozen=True)
class ErasuresServicer(erasures_pb2_grpc.ErasuresServicer):
    """Asking for an erasure and watching it. `requested` is told of each new one."""

    setting: ErasureContext
    requested: Callable[[], None]

    def RequestErasure(
        self, request: erasures_pb2.RequestErasureRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Erasure:
        """Files a request; its subject is fenced when this returns."""
        filed = request_erasure(convert.request_command(request), self.setting)
        self.requested()
        return message_of(filed, self.setting)

    def GetErasure(
        self, request: erasures_pb2.GetErasureRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Erasure:
        """One erasure."""
        identifier = erasure_id(request.name)
        with self.setting.store.read() as uow:
            return convert.erasure(
                uow.erasures.get(identifier),
                uow.attempts.of(identifier),
                uow.claims.find(identifier),
            )

    def ListErasures(
        self, request: erasures_pb2.ListErasuresRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.ListErasuresResponse:
        """Newest first."""
        with self.setting.store.read() as uow:
            found = uow.erasures.open() if request.open_only else uow.erasures.all()
            return erasures_pb2.ListErasuresResponse(
                erasures=[
                    convert.erasure(one, uow.attempts.of(one.id), uow.claims.find(one.id))
                    for one in found
                ]
            )

    def ApproveErasure(
        self, request: erasures_pb2.ApproveErasureRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Erasure:
        """Consents to a request; its subject is fenced when this returns."""
        approved = approve_erasure(erasure_id(request.name), self.setting)
        self.requested()
        return message_of(approved, self.setting)

    def CancelErasure(
        self, request: erasures_pb2.CancelErasureRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.Erasure:
        """Withdraws a request."""
        cancelled = cancel_erasure(erasure_id(request.name), self.setting)
        return message_of(cancelled, self.setting)
