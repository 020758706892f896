"""The object graph of the coordinator, top to bottom: servers and chores around the core."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

from coordinator.adapters.data_dir import locked
from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.core_wiring import build_core, check_keys_at_hand, meter, new_id
from coordinator.erasure_wiring import erasure_context, erasure_services, relay_chores
from coordinator.identity_wiring import build_doors, enrolment_service
from coordinator.retention_wiring import Retention
from coordinator.rpc.audit import AuditServicer
from coordinator.rpc.federation import FederationServicer
from coordinator.rpc.guard import Guard
from coordinator.rpc.hold import Hold
from coordinator.rpc.ledger import LedgerServicer
from coordinator.rpc.models import ModelsServicer
from coordinator.rpc.raw_uploads import RawUploads
from coordinator.rpc.recovery import RecoveryServicer
from coordinator.rpc.refusals import AuditRefusals
from coordinator.rpc.transparency import TransparencyServicer
from coordinator.services.advance_serving import AdvanceServing
from coordinator.services.destroy_subject import finish_destructions
from coordinator.services.erasure_context import ErasureContext
from coordinator.services.exchange_files import ExchangeFiles
from coordinator.services.export_model import ExportModel
from coordinator.services.fix_audit_head import FixAuditHead
from coordinator.services.hold_leadership import HoldLeadership
from coordinator.services.maintenance import Maintenance
from coordinator.services.rebuild_model import RebuildModel
from coordinator.services.record_download import RecordDownload
from coordinator.services.rounds import CloseRound
from coordinator.services.sweep_leftovers import sweep_uploads
from coordinator.services.wait_at_start import AwaitStream
from coordinator.standby import LEADER, REDIS, SERVING, Standby
from coordinator.start_wiring import a_health_port, leadership_of, open_database
from coordinator.training_wiring import Service, training_services
from letheon.errors import BadConfig, LetheonError, RestoreIncomplete
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.erasure_queue import ErasureQueue, RedisErasureQueue
from letheon.servicekit.health_port import HealthPort
from letheon.servicekit.metrics import MetricsEndpoint, RpcMetrics
from letheon.servicekit.server import Server
from letheon.v1 import (
    audit_pb2_grpc,
    federation_pb2_grpc,
    ledger_pb2_grpc,
    models_pb2_grpc,
    recovery_pb2_grpc,
    transparency_pb2_grpc,
)

_log = logging.getLogger(__name__)


class Coordinator:
    """The running process: server, background work, metrics endpoint."""

    def __init__(
        self,
        config: CoordinatorConfig,
        core: Core,
        server: Server,
        maintenance: Maintenance,
        relay: Maintenance,
        retention: Retention,
        leadership: HoldLeadership,
        hold: Hold,
        health: HealthPort,
        page: MetricsEndpoint,
        opened: ExitStack,
        guard: Guard,
    ) -> None:
        self.guard = guard
        self.core = core
        self.address = ""
        self.enrolment_address: str | None = None
        self._config, self._server = config, server
        self.maintenance, self.relay = maintenance, relay
        self.leadership, self._opened = leadership, opened
        self.retention = retention
        self._hold, self._health = hold, health
        hold.on_release = self._released
        self._page = page

    @property
    def metrics_address(self) -> str | None:
        """host:port of the metrics page; None without one."""
        return self._page.address

    def start(self) -> str:
        """Serves; answers the bound `host:port`. Raises BadConfig if a port is taken."""
        self._page.open()
        self.address = self._server.start(healthy=not self._hold.is_on)
        self.enrolment_address = self._server.second_address
        self._health.note(LEADER, holds=True)
        if not self._hold.is_on:
            self._begin_chores()
        if self._config.address_file is not None:
            _write_whole(self._config.address_file, self.address)
        _log.info(
            "held" if self._hold.is_on else "serving",
            extra={
                "address": self.address,
                "enrolment": self.enrolment_address,
                "metrics": self.metrics_address,
            },
        )
        return self.address

    def _released(self) -> None:
        self._server.report(healthy=True)
        self._begin_chores()
        _log.info("released")

    def _begin_chores(self) -> None:
        self._health.note(SERVING, holds=True)
        self.maintenance.start()
        self.relay.start()
        self.retention.start()

    def stop(self) -> None:
        """Refuses new calls, finishes running ones, closes in reverse order.

        The head is left as a checkpoint, so that the next start replays nothing.
        """
        self._health.note(SERVING, holds=False)
        self._server.stop(self._config.stop_seconds)
        self.retention.stop()
        self.relay.stop()
        self.maintenance.stop()
        self._leave("presence_not_saved", lambda: self.core.presence.save(self.core.store))
        self._leave("checkpoint_not_left", self.core.derived.checkpoint_if_behind)
        self._page.close()
        self.close()
        _log.info("stopped")

    def close(self) -> None:
        """Gives up the lease, the database and data_dir; alone for what never served."""
        self._opened.close()

    def _leave(self, what_failed: str, save: Callable[[], object]) -> None:
        """A courtesy to the next start, which can do without."""
        try:
            save()
        except (LetheonError, OSError) as error:
            _log.warning(what_failed, extra={"why": str(error)})


def build(
    config: CoordinatorConfig,
    *,
    clock: Clock | None = None,
    queue: ErasureQueue | None = None,
    ending: threading.Event | None = None,
    health: HealthPort | None = None,
) -> Coordinator:
    """The whole graph, once this process may write. Sets `ending` when it may no longer.

    Waits for PostgreSQL and for the lease, and tells `health`, which somebody else started.

    Raises BadConfig; DatabaseCorrupt; StorageUnavailable, DatabaseBusy or LeadershipHeld if
    `ending` is set while there is no database or another process may write.
    """
    clock, ending = clock or SystemClock(), ending or threading.Event()
    health = health or a_health_port(None)
    queue = queue or _open_queue(config)
    with ExitStack() as opened:
        opened.enter_context(locked(config.data_dir))
        check_keys_at_hand(config)
        metered = meter(config, clock)
        page = MetricsEndpoint(config.metrics_listen, metered.registry)
        opened.callback(page.close)
        # One that waits for its database or its turn can be watched, too.
        page.open_if_free()
        store = opened.enter_context(closing(open_database(config, clock, ending)))
        stream = AwaitStream(
            queue,
            clock,
            patience_s=config.redis_wait_seconds,
            done=lambda: health.note(REDIS, holds=True),
        )
        stream.start()
        opened.callback(stream.stop)
        doors = [config.listen, config.enrolment.listen]
        standby = Standby(list(filter(None, doors)), health, relays=config.standby.relay)
        opened.callback(standby.end)
        leadership = leadership_of(config, store, clock, ending, standby)
        leadership.start()
        opened.callback(leadership.stop)
        standby.end()
        metered.metrics.leader.set_function(lambda: 0 if leadership.is_lost else 1)
        core = build_core(config, store, clock, metered)
        if core.ring is not None:
            opened.callback(core.ring.close)
        erasing = erasure_context(core, config)
        hold = _held_if_behind(core, erasing)
        relay = relay_chores(core, queue, erasing, config)
        maintenance = _chores(core, config)
        services = [
            *training_services(core, config, answered=maintenance.wake),
            *reading_services(core),
            *(Service(*parts) for parts in erasure_services(core, erasing, requested=relay.wake)),
            Service(
                "Recovery",
                recovery_pb2_grpc.add_RecoveryServicer_to_server,
                RecoveryServicer(erasing, hold),
            ),
        ]
        services.append(enrolment_service(config, store, clock))
        refusals = AuditRefusals(store, clock)
        guarded = build_doors(config, store, core.registry, clock, refusals.note)
        server = Server(
            [(service.register, service.servicer) for service in services],
            listen=config.listen,
            workers=config.limits.workers,
            # The guard comes before those who want to know the caller.
            interceptors=[RpcMetrics(core.registry), guarded.guard, refusals, hold, RawUploads()],
            credentials=guarded.credentials,
            second=guarded.second,
            service_names=[f"letheon.v1.{service.name}" for service in services],
        )
        return Coordinator(
            config,
            core,
            server,
            maintenance,
            relay,
            Retention(core, config),
            leadership,
            hold,
            health,
            page,
            opened.pop_all(),
            guarded.guard,
        )


def _held_if_behind(core: Core, erasing: ErasureContext) -> Hold:
    """Nothing is served from a database that is older than its tombstones."""
    hold = Hold()
    lacking = core.tombstones.missing()
    if not lacking:
        core.tombstones.catch_up()
        finish_destructions(erasing)
        return hold
    _log.error("held_for_restore", extra={"lacking": len(lacking)})
    hold.put_on(
        RestoreIncomplete(
            f"the database is older than its tombstone log and lacks {len(lacking)} of its "
            "erasures, as after a backup was put back: run `letheon restore`; nothing is served "
            "before"
        )
    )
    return hold


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
            **_rounds(core),
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
                removed=core.metrics.orphans,
            ),
            "orphans": core.orphans.if_due,
            "audit_head": FixAuditHead(
                core.store, core.log, core.clock, timedelta(hours=config.audit.head_hours)
            ),
            "gauges": core.gauges.refresh,
        },
        core.clock,
        every_s=config.upkeep.every_seconds,
        failed=core.metrics.chore_failed,
    )


def _rounds(core: Core) -> dict[str, Callable[[], object]]:
    if not core.strategy.synchronous:
        return {}
    return {"round": CloseRound(core.rounds, core.store, core.live)}


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
        exchange_files=ExchangeFiles(core.store, core.blobs, size=core.plan.parameters.size),
        log=core.log,
        downloaded=RecordDownload(core.store, core.clock),
        plan_digest=core.plan.digest,
        sent=core.metrics.sent,
    )
    federation = FederationServicer(
        core.store, core.blobs, core.staging, core.live, core.clock, core.plan
    )
    ledger = LedgerServicer(core.store, core.verify_ledger)
    return [
        Service("Models", models_pb2_grpc.add_ModelsServicer_to_server, models),
        Service("Federation", federation_pb2_grpc.add_FederationServicer_to_server, federation),
        Service("Ledger", ledger_pb2_grpc.add_LedgerServicer_to_server, ledger),
        Service("Audit", audit_pb2_grpc.add_AuditServicer_to_server, AuditServicer(core.store)),
        Service(
            "Transparency",
            transparency_pb2_grpc.add_TransparencyServicer_to_server,
            TransparencyServicer(core.log),
        ),
    ]


def _open_queue(config: CoordinatorConfig) -> ErasureQueue:
    if config.redis_url is None:
        raise BadConfig("redis_url is not set", key="redis_url")
    return RedisErasureQueue(config.redis_url.get_secret_value())


def _write_whole(path: Path, text: str) -> None:
    """Whoever waits for the file never reads half of it."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
