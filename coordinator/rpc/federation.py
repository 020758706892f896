"""letheon.v1.Federation."""

# ruff: noqa: N802, ARG002 (gRPC names the methods and passes both arguments)
from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.ports import Blobs, StagingArea, Store
from coordinator.rpc import convert
from coordinator.services.live_model import LiveModel
from coordinator.services.measure_upkeep import measure_upkeep
from letheon.federation.plan import Plan
from letheon.servicekit.clock import Clock
from letheon.v1 import federation_pb2, federation_pb2_grpc
from letheon.version import __version__

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class FederationServicer(federation_pb2_grpc.FederationServicer):
    """The plan and where the federation stands."""

    store: Store
    blobs: Blobs
    staging: StagingArea
    live: LiveModel
    clock: Clock
    plan: Plan

    def GetFederation(
        self, request: federation_pb2.GetFederationRequest, context: grpc.ServicerContext
    ) -> federation_pb2.FederationStatus:
        """Head, epoch, serving version, counters, disk."""
        with self.store.read() as uow:
            row = uow.federation.get()
            counters = uow.federation.counters()
            open_erasures = len(uow.erasures.open())
        position = self.live.position
        upkeep = measure_upkeep(self.store, self.blobs, self.staging, position.entry)
        status = federation_pb2.FederationStatus(
            plan_digest=row.plan_digest,
            epoch=position.epoch,
            head_version=position.version,
            serving_carries_subject=row.serving_carries_subject,
            entries=position.entry + 1,
            ledger_hash=position.ledger_hash,
            model_size_bytes=self.plan.parameters.size * _FLOAT32_BYTES,
            updates=counters,
            open_erasures=open_erasures,
            read_at=convert.timestamp(self.clock.now()),
            disk_bytes=self.blobs.disk_bytes(),
            disk_bytes_by_area=upkeep.bytes_by_area,
            payloads_kept=upkeep.payloads,
            oldest_rebuildable_entry=upkeep.oldest_entry,
            oldest_rebuildable_version=upkeep.oldest_version,
            entries_since_checkpoint=upkeep.entries_since_checkpoint,
            release=__version__,
        )
        if row.serving_version is not None:
            status.serving_version = row.serving_version
        return status

    def GetPlan(
        self, request: federation_pb2.GetPlanRequest, context: grpc.ServicerContext
    ) -> federation_pb2.Plan:
        """The plan as the bytes that are digested."""
        return federation_pb2.Plan(
            canonical_json=self.plan.canonical_json(), digest=self.plan.digest
        )
