"""The part of the object graph that agents talk to."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.domain.upload import AnswerPurpose, DeltaPurpose, PatchPurpose
from coordinator.rpc.sites import SitesServicer
from coordinator.rpc.training import TrainingServicer
from coordinator.rpc.updates import UpdatesServicer
from coordinator.services.accept_delta import AcceptDelta
from coordinator.services.accept_patch import AcceptPatch
from coordinator.services.decide_quarantined import DecideQuarantined
from coordinator.services.next_task import NextTask, Polling
from coordinator.services.notify_recipients import Amend
from coordinator.services.receive_upload import ReceiveUpload
from coordinator.services.register_site import RegisterSite
from coordinator.services.screen_delta import ScreenDelta
from coordinator.services.site_signatures import SiteSignatures
from coordinator.services.store_answer import StoreAnswer
from coordinator.services.submit_answer import SubmitAnswer
from letheon.servicekit.server import Register
from letheon.v1 import sites_pb2_grpc, training_pb2_grpc, updates_pb2_grpc


@dataclass(frozen=True)
class Service:
    """A servicer, how it is registered, and its name in the proto package."""

    name: str
    register: Register
    servicer: object


def training_services(
    core: Core, config: CoordinatorConfig, *, answered: Callable[[], None]
) -> list[Service]:
    """What agents call."""
    deltas = accept_delta(core, required=config.signing.require_updates)
    next_task = NextTask(
        store=core.store,
        live=core.live,
        presence=core.presence,
        rounds=core.rounds,
        meter=core.metrics,
        clock=core.clock,
        rng=random.Random(),
        polling=Polling(config.polling.retry_after_seconds, config.polling.jitter),
        federation=core.plan.digest,
        training=core.plan.training,
    )
    training = TrainingServicer(
        next_task=next_task,
        uploads=receive_upload(core, deltas, required=config.signing.require_updates),
        submit_answer=SubmitAnswer(
            core.store, core.clock, answered, Amend(core.store, core.log, core.clock)
        ),
        live=core.live,
        plan_digest=core.plan.digest,
    )
    register_site = RegisterSite(core.store, core.clock, core.plan.digest)
    sites = SitesServicer(core.store, core.presence, register_site)
    updates = UpdatesServicer(core.store, DecideQuarantined(core.store, core.blobs, deltas))
    return [
        Service("Training", training_pb2_grpc.add_TrainingServicer_to_server, training),
        Service("Updates", updates_pb2_grpc.add_UpdatesServicer_to_server, updates),
        Service("Sites", sites_pb2_grpc.add_SitesServicer_to_server, sites),
    ]


def accept_delta(core: Core, *, required: bool = False) -> AcceptDelta:
    """What becomes of a delta; `required`: none of a site that does not sign."""
    return AcceptDelta(
        core.store,
        core.live,
        core.derived,
        core.rounds,
        core.metrics,
        core.clock,
        core.plan.max_delta_norm,
        SiteSignatures(required),
        ScreenDelta(core.plan.screening, core.store, core.blobs),
        core.plan.max_record_count,
    )


def receive_upload(
    core: Core, deltas: AcceptDelta | None = None, *, required: bool = False
) -> ReceiveUpload:
    """Uploads of every purpose; `required`: none of a site that does not sign."""
    signatures = SiteSignatures(required)
    store, live, meter, clock, plan = core.store, core.live, core.metrics, core.clock, core.plan
    return ReceiveUpload(
        store=store,
        staging=core.staging,
        in_flight=core.in_flight,
        acceptances={
            DeltaPurpose: deltas or accept_delta(core, required=required),
            PatchPurpose: AcceptPatch(
                store,
                live,
                core.derived,
                meter,
                clock,
                plan.erasure.patch_cap_ratio,
                plan.erasure.epoch_share,
            ),
            AnswerPurpose: StoreAnswer(store, live, clock, signatures),
        },
        slots=core.slots,
        meter=meter,
        clock=clock,
        layout=plan.parameters,
        encodings={
            DeltaPurpose: plan.delta_encodings,
            PatchPurpose: (plan.patch_encoding,),
            AnswerPurpose: (plan.patch_encoding,),
        },
    )
