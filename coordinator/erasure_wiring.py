"""The part of the object graph that carries out erasures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.gauges import QueueGauges
from coordinator.rpc.certificates import CertificatesServicer
from coordinator.rpc.erasure_jobs import ErasureJobsServicer
from coordinator.rpc.erasures import ErasuresServicer
from coordinator.services.erasure_context import (
    Approvals,
    ErasureContext,
    ErasureLimits,
    offered_methods,
)
from coordinator.services.erasure_relay import ErasureRelay
from coordinator.services.maintenance import Maintenance
from coordinator.services.notify_recipients import Amend
from letheon.servicekit.erasure_queue import ErasureQueue
from letheon.servicekit.server import Register
from letheon.v1 import certificates_pb2_grpc, erasures_pb2_grpc


def erasure_context(core: Core, config: CoordinatorConfig) -> ErasureContext:
    """What the use cases of erasures share."""
    offered_methods()  # read now, so that the first request does not wait for it
    claims = config.claims
    return ErasureContext(
        store=core.store,
        blobs=core.blobs,
        staging=core.staging,
        live=core.live,
        files=core.files,
        keep=core.derived,
        presence=core.presence,
        verify_ledger=core.verify_ledger,
        plan=core.plan,
        strategy=core.strategy,
        clock=core.clock,
        new_id=core.new_id,
        tombstones=core.tombstones,
        ring=core.ring,
        log=core.log,
        limits=ErasureLimits(
            claim_lease=timedelta(seconds=claims.lease_seconds),
            subject_seen_within=timedelta(seconds=claims.subject_seen_seconds),
            reannounce_after=timedelta(seconds=claims.reannounce_seconds),
        ),
        approvals=Approvals(config.approvals.share, timedelta(hours=config.approvals.window_hours)),
        observe_stage=core.metrics.erasure_stage,
    )


def amend(core: Core) -> Amend:
    """What states who acknowledged that a version is invalid."""
    return Amend(core.store, core.log, core.clock)


def erasure_services(
    core: Core, context: ErasureContext, *, requested: Callable[[], None]
) -> list[tuple[str, Register, object]]:
    """Name, registration and servicer of each service; `requested` is told of each request."""
    return [
        (
            "Erasures",
            erasures_pb2_grpc.add_ErasuresServicer_to_server,
            ErasuresServicer(context, requested),
        ),
        (
            "ErasureJobs",
            erasures_pb2_grpc.add_ErasureJobsServicer_to_server,
            ErasureJobsServicer(context, core.slots),
        ),
        (
            "Certificates",
            certificates_pb2_grpc.add_CertificatesServicer_to_server,
            CertificatesServicer(core.store, core.log, amend(core)),
        ),
    ]


def relay_chores(
    core: Core, queue: ErasureQueue, context: ErasureContext, config: CoordinatorConfig
) -> Maintenance:
    """The thread that talks to the stream: apart, because the stream may be slow or down."""
    relay = ErasureRelay(core.store, queue, core.clock, context.limits)
    gauges = QueueGauges(core.registry, queue)
    return Maintenance(
        {"relay": relay.relay, "reconcile": relay.reconcile, "queue_gauges": gauges.refresh},
        core.clock,
        every_s=config.upkeep.every_seconds,
        failed=core.metrics.chore_failed,
    )
