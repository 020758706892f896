"""letheon.v1.Recovery."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from coordinator.domain.tombstones import Missing
from coordinator.rpc import convert
from coordinator.rpc.hold import Hold
from coordinator.services.apply_tombstones import apply_tombstones
from coordinator.services.erasure_context import ErasureContext
from letheon.names import erasure_name, site_name
from letheon.v1 import recovery_pb2, recovery_pb2_grpc


@dataclass(frozen=True)
class RecoveryServicer(recovery_pb2_grpc.RecoveryServicer):
    """Bringing a restored database up to its tombstones."""

    setting: ErasureContext
    hold: Hold
    _applying: threading.Lock = field(default_factory=threading.Lock)

    def GetRecovery(
        self, request: recovery_pb2.GetRecoveryRequest, context: grpc.ServicerContext
    ) -> recovery_pb2.RecoveryStatus:
        """What the database lacks."""
        return self._status(self.setting.tombstones.missing())

    def ApplyTombstones(
        self, request: recovery_pb2.ApplyTombstonesRequest, context: grpc.ServicerContext
    ) -> recovery_pb2.RecoveryStatus:
        """Brings the database up to the log."""
        with self._applying:
            done = apply_tombstones(self.setting)
            self.hold.release()
        return self._status(done)

    def _status(self, missing: Sequence[Missing]) -> recovery_pb2.RecoveryStatus:
        return recovery_pb2.RecoveryStatus(
            keeps_tombstones=self.setting.tombstones.is_kept,
            held=self.hold.is_on,
            missing=[
                recovery_pb2.MissingErasure(
                    erasure=erasure_name(each.erasure.id),
                    site=site_name(each.erasure.site),
                    step=each.step.value,
                    requested_at=convert.timestamp(each.erasure.requested_at),
                )
                for each in missing
            ],
        )
