"""The Updates service: what screening set aside."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

import grpc

from coordinator.domain.quarantine import QuarantinedDelta, QuarantineState
from coordinator.ports import Store
from coordinator.rpc import convert
from coordinator.services.decide_quarantined import DecideQuarantined
from letheon.names import site_name
from letheon.v1 import updates_pb2, updates_pb2_grpc

_STATES = {
    QuarantineState.WAITING: updates_pb2.QuarantinedUpdate.WAITING,
    QuarantineState.RELEASED: updates_pb2.QuarantinedUpdate.RELEASED,
    QuarantineState.REJECTED: updates_pb2.QuarantinedUpdate.REJECTED,
    QuarantineState.VOIDED: updates_pb2.QuarantinedUpdate.VOIDED,
}


class UpdatesServicer(updates_pb2_grpc.UpdatesServicer):
    """Lists, releases and rejects."""

    def __init__(self, store: Store, decide: DecideQuarantined) -> None:
        self._store, self._decide = store, decide

    def ListQuarantined(
        self, request: updates_pb2.ListQuarantinedRequest, context: grpc.ServicerContext
    ) -> updates_pb2.ListQuarantinedResponse:
        """Oldest first."""
        with self._store.read() as uow:
            found = uow.quarantined.all(waiting=not request.with_decided)
        return updates_pb2.ListQuarantinedResponse(updates=[_message(delta) for delta in found])

    def ReleaseUpdate(
        self, request: updates_pb2.ReleaseUpdateRequest, context: grpc.ServicerContext
    ) -> updates_pb2.ReleaseUpdateResponse:
        """Merges one after all."""
        delta, receipt = self._decide.release(request.update_id, request.reason)
        return updates_pb2.ReleaseUpdateResponse(
            update=_message(delta), receipt=convert.receipt(receipt)
        )

    def RejectUpdate(
        self, request: updates_pb2.RejectUpdateRequest, context: grpc.ServicerContext
    ) -> updates_pb2.QuarantinedUpdate:
        """Destroys the payload of one."""
        return _message(self._decide.reject(request.update_id, request.reason))


def _message(delta: QuarantinedDelta) -> updates_pb2.QuarantinedUpdate:
    message = updates_pb2.QuarantinedUpdate(
        update_id=delta.update_id,
        site=site_name(delta.site),
        state=_STATES[delta.state],
        finding=delta.finding,
        norm=delta.norm,
        norm_ratio=delta.norm_ratio,
        cosine=delta.cosine,
        base_version=delta.base_version,
        epoch=delta.epoch,
        record_count=delta.record_count,
        size_bytes=delta.payload_bytes,
        sha256=delta.payload_sha256,
        decision=delta.decision,
        entry=delta.entry or 0,
    )
    message.arrived_at.FromDatetime(delta.arrived_at)
    if delta.decided_at is not None:
        message.decided_at.FromDatetime(delta.decided_at)
    return message
