"""The object graph of the coordinator, top to bottom. The only file naming concrete adapters."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry

from coordinator.adapters.disk_blobs import DiskBlobs, DiskStagingArea
from coordinator.adapters.sql import SqlStore
from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.erasure_wiring import erasure_context, erasure_services, relay_chores
from coordinator.metrics import Gauges, Metrics
from coordinator.ports import Blobs
from coordinator.rpc.federation import FederationServicer
from coordinator.rpc.ledger import LedgerServicer
from coordinator.rpc.models import ModelsServicer
from coordinator.services.advance_serving import AdvanceServing
from coordinator.services.destroy_subject import finish_destructions
from coordinator.services.export_model import ExportModel
from coordinator.services.import_plan import import_plan
from coordinator.services.keep_derived import KeepDerived
from coordinator.services.live_model import LiveModel
from coordinator.services.maintenance import Maintenance
from coordinator.services.model_files import ModelFiles
from coordinator.services.presence import Presence
from coordinator.services.rebuild_model import RebuildModel
from coordinator.services.sweep_leftovers import sweep_payloads, sweep_uploads
from coordinator.services.transfer_slots import TransferSlots
from coordinator.services.unfolded_terms import UnfoldedTerms
from coordinator.services.verify_ledger import VerifyLedger
from coordinator.training_wiring import Service, training_services
from letheon.errors import BadConfig
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.erasure_queue import ErasureQueue, RedisErasureQueue
from letheon.servicekit.metrics import RpcMetrics, serve_metrics
from letheon.servicekit.server import Server
from letheon.v1 import (
    federation_pb2_grpc,
    ledger_pb2_grpc,
    models_pb2_grpc,
)

_log = logging.getLogger(__name__)


def new_id() -> str:
    """A fresh identifier that may stand in a resource name."""
    return uuid.uuid4().hex


class Coordinator:
    """The running process: server, background work, metrics endpoint."""

    def __init__(
        self,
        config: CoordinatorConfig,
        core: Core,
        server: Server,
        maintenance: Maintenance,
        relay: Maintenance,
        store: SqlStore,
    ) -> None:
        self.core = core
        self.address = ""
        self.metrics_address: str | None = None
        self._config, self._server = config, server
        self.maintenance, self.relay = maintenance, relay
        self._store = store
        self._close_metrics: Callable[[], None] = lambda: None

    def start(self) -> str:
        """Serves; answers the bound `host:port`. Raises BadConfig if a port is taken."""
        if self._config.metrics_listen is not None:
            self.metrics_address, self._close_metrics = serve_metrics(
                self._config.metrics_listen, self.core.registry
            )
        self.address = self._server.start()
        self.maintenance.start()
        self.relay.start()
        if self._config.address_file is not None:
            _write_whole(self._config.address_file, self.address)
        _log.info("serving", extra={"address": self.address, "metrics": self.metrics_address})
        return self.address

    def stop(self) -> None:
        """Refuses new calls, finishes running ones, closes in reverse order."""
        self._server.stop(self._config.stop_seconds)
        self.relay.stop()
        self.maintenance.stop()
        self.core.presence.save(self._store)
        self._close_metrics()
        self._store.close()
        _log.info("stopped")


def build(
    config: CoordinatorConfig, *, clock: Clock | None = None, queue: ErasureQueue | None = None
) -> Coordinator:
    """The whole graph. Raises BadConfig, or StorageUnavailable if the database is down."""
    store = _open_store(config)
    core = build_core(config, store, clock or SystemClock())
    erasing = erasure_context(core, config)
    finish_destructions(erasing)
    relay = relay_chores(core, queue or _open_queue(config), erasing, config)
    maintenance = _chores(core, config)
    services = [
        *training_services(core, config, answered=maintenance.wake),
        *reading_services(core),
        *(Service(*parts) for parts in erasure_services(core, erasing, requested=relay.wake)),
    ]
    server = Server(
        [(service.register, service.servicer) for service in services],
        listen=config.listen,
        workers=config.limits.workers,
        interceptors=[RpcMetrics(core.registry)],
        service_names=[f"letheon.v1.{service.name}" for service in services],
    )
    return Coordinator(config, core, server, maintenance, relay, store)


def _chores(core: Core, config: CoordinatorConfig) -> Maintenance:
    serving = AdvanceServing(
        store=core.store,
        live=core.live,
        files=core.files,
        clock=core.clock,
        new_id=new_id,
        every=core.plan.serving.advance_every,
        margin=core.plan.serving.utility_margin,
        answer_timeout=timedelta(seconds=core.plan.gate.answer_timeout_seconds),
    )
    return Maintenance(
        {
            "serving": serving,
            "checkpoint": core.derived.checkpoint_if_due,
            "fold": core.derived.fold_if_due,
            "model_files": core.files.drop_unneeded,
            "presence": lambda: core.presence.save(core.store),
            "uploads": lambda: sweep_uploads(
                core.store,
                core.staging,
                core.clock,
                keep=timedelta(days=config.upkeep.keep_upload_days),
            ),
            "gauges": core.gauges.refresh,
        },
        core.clock,
        every_s=config.upkeep.every_seconds,
    )


def build_core(config: CoordinatorConfig, store: SqlStore, clock: Clock) -> Core:
    """Stores, plan and head, recovered from the ledger."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, clock)
    data, limits, upkeep = config.data_dir, config.limits, config.upkeep
    payloads = DiskBlobs(data / "payloads")
    blobs = _open_blobs(data, payloads)
    staging = DiskStagingArea(data / "uploads", payloads, reserve_bytes=limits.reserve_bytes)
    plan = import_plan(store, blobs, clock, new_id, directory=config.federation_dir)
    sweep_payloads(store, payloads)
    size = plan.parameters.size
    live = LiveModel(store, blobs, metrics, clock, size=size)
    presence = Presence()
    return Core(
        store=store,
        blobs=blobs,
        staging=staging,
        plan=plan,
        strategy=plan.build_strategy(),
        live=live,
        files=ModelFiles(
            store,
            blobs,
            live,
            metrics,
            clock,
            keep_newest=upkeep.keep_models,
            resume_within_s=limits.resume_within_seconds,
        ),
        derived=KeepDerived(
            store=store,
            blobs=blobs,
            live=live,
            clock=clock,
            checkpoint_every=upkeep.checkpoint_entries,
            keep_checkpoints=upkeep.keep_checkpoints,
            fold_after=upkeep.fold_entries,
            unfolded=UnfoldedTerms(store, count_to=upkeep.fold_entries),
        ),
        verify_ledger=VerifyLedger(store, blobs, live, size=size),
        presence=presence,
        slots=TransferSlots(limits.transfers, retry_after_s=limits.transfer_retry_seconds),
        registry=registry,
        metrics=metrics,
        gauges=Gauges(registry, store, blobs, live, presence, clock),
        clock=clock,
        new_id=new_id,
    )


def _open_blobs(data: Path, payloads: DiskBlobs) -> Blobs:
    return Blobs(
        payloads=payloads,
        models=DiskBlobs(data / "models"),
        checkpoints=DiskBlobs(data / "checkpoints"),
        contributions=DiskBlobs(data / "contributions"),
    )


def reading_services(core: Core) -> list[Service]:
    """What everybody may read."""
    models = ModelsServicer(
        store=core.store,
        blobs=core.blobs,
        live=core.live,
        files=core.files,
        export_model=ExportModel(core.store, core.clock),
        rebuild_model=RebuildModel(
            core.store, core.blobs, core.live, core.clock, size=core.plan.parameters.size
        ),
        slots=core.slots,
    )
    federation = FederationServicer(core.store, core.blobs, core.live, core.clock, core.plan)
    ledger = LedgerServicer(core.store, core.verify_ledger, core.metrics)
    return [
        Service("Models", models_pb2_grpc.add_ModelsServicer_to_server, models),
        Service("Federation", federation_pb2_grpc.add_FederationServicer_to_server, federation),
        Service("Ledger", ledger_pb2_grpc.add_LedgerServicer_to_server, ledger),
    ]


def _open_store(config: CoordinatorConfig) -> SqlStore:
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadConfig(
            f"data_dir {config.data_dir} cannot be made: {error.strerror}", key="data_dir"
        ) from error
    return SqlStore(config.database_url)


def _open_queue(config: CoordinatorConfig) -> ErasureQueue:
    if config.redis_url is None:
        raise BadConfig("redis_url is not set", key="redis_url")
    return RedisErasureQueue(config.redis_url.get_secret_value())


def _write_whole(path: Path, text: str) -> None:
    """Whoever waits for the file never reads half of it."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
