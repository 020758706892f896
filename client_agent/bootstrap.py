"""The object graph of an agent; the only file that names concrete adapters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry

from client_agent.adapters.coordinator_client import CoordinatorClient
from client_agent.adapters.exchange_log import ExchangeLog
from client_agent.adapters.lasting_trainer import LastingTrainer
from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.privacy_ledger import PrivacyLedger
from client_agent.adapters.record_index import RecordIndex
from client_agent.adapters.residual_files import ResidualFiles
from client_agent.adapters.site_key import load_site_key
from client_agent.adapters.sqlite_outbox import SqliteOutbox
from client_agent.adapters.sqlite_subjects import SqliteSubjects
from client_agent.adapters.state_dir import StateDir, occupy
from client_agent.adapters.trainer_process import TrainerProcess
from client_agent.adapters.update_keys import UpdateKeys
from client_agent.agent import Agent, Parts
from client_agent.config import AgentConfig
from client_agent.domain.privacy import PrivacyLoss
from client_agent.metrics import AgentMetrics
from client_agent.network_config import route_to
from client_agent.ports import Trainer
from client_agent.services.answer_task import AnswerErasure
from client_agent.services.coordinator_trust import CoordinatorTrust, read_pinned
from client_agent.services.file_subjects import FileSubjects
from client_agent.services.flush_outbox import FlushOutbox
from client_agent.services.model_cache import ModelCache
from client_agent.services.privacy_account import PrivacyAccount
from client_agent.services.pulse import Heartbeat
from client_agent.services.recompute import Recompute
from client_agent.services.take_index import take_index
from client_agent.services.train_task import TrainFromHead
from client_agent.services.watch_log import LogFiles, Suspicion, WatchLog
from letheon.errors import BadConfig
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.metrics import serve_metrics
from letheon.servicekit.process_metrics import observe_process
from letheon.servicekit.rate import RateLimit
from letheon.servicekit.renewal import Renewal, RenewalThread
from letheon.servicekit.route import certificates_in
from letheon.servicekit.sd_notify import Notifier, WatchedClock

log = logging.getLogger(__name__)

_BACKOFF_BASE_S = 0.5
_CHILD_GRACE_S = 2.0
_RENEWAL_BACKOFF_S, _RENEWAL_BACKOFF_CAP_S = 1.0, 600.0
# Between two looks for other work, while past deltas are made again.
_RECOMPUTE_SLICE_S = 5.0


@dataclass(frozen=True)
class Running:
    """An agent and what has to be closed with it."""

    agent: Agent
    trainer: Trainer
    coordinator: CoordinatorClient
    registry: CollectorRegistry
    closing: ExitStack
    notifier: Notifier

    def stop(self) -> None:
        """Ends the agent's `run` from any thread, wherever it waits."""
        self.notifier.stopping()
        self.agent.stop()
        self.trainer.stop(_CHILD_GRACE_S)
        self.coordinator.interrupt()

    def close(self) -> None:
        """Gives everything back, in reverse order; call it after `run` has returned or raised."""
        self.closing.close()


def build(
    config: AgentConfig, *, clock: Clock | None = None, trainer: Trainer | None = None
) -> Running:
    """Builds everything, top to bottom. Nothing is connected and no process started yet.

    `trainer` stands in for the training process, which is made when it is absent.

    Raises BadConfig if the state directory or the metrics address is taken, or a file of TLS or
    the proxy's password cannot be used.
    """
    clock = clock or SystemClock()
    notifier = Notifier(clock)
    # Waits of the loop itself; other threads must not speak for it.
    watched: Clock = WatchedClock(clock, notifier) if notifier.feed_every_s else clock
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry)
    observe_process(registry, "agent", config.state_dir)
    with ExitStack() as building:
        state = occupy(config.state_dir.absolute())
        building.callback(state.release)
        outbox = SqliteOutbox(state.database, state.outbox, clock)
        building.callback(outbox.close_database)
        residuals = ResidualFiles(state.residuals)
        residuals.settle({upload.update_id for upload in outbox.waiting()})
        tables = LocalTables(state.database)
        building.callback(tables.close)
        index = RecordIndex(tables)
        subjects = SqliteSubjects(tables, index, clock)
        key = load_site_key(state.root, may_make=subjects.is_empty())
        ledger = PrivacyLedger(tables, clock)
        privacy = _privacy(config, ledger, metrics)
        if config.metrics_listen is not None:
            address, close = serve_metrics(config.metrics_listen, registry)
            building.callback(close)
            log.info("metrics_served", extra={"address": address})
        coordinator = _connect(config, metrics, clock, watched, notifier)
        building.callback(coordinator.close)
        if privacy is not None:
            coordinator.tell_of_privacy(lambda: privacy.loss)
        coordinator.sign_with(UpdateKeys(state.update_key))
        watch_log = _demand_signatures(config, coordinator, state, metrics, clock)
        if config.tls is not None and config.tls.renew:
            renewal = _renewal(config, coordinator, metrics, clock)
            renewal.start()
            building.callback(renewal.stop)
        worker = trainer or TrainerProcess(
            config,
            state.root,
            on_death=metrics.child_restarts.inc,
            excluded=subjects.excluded,
            on_wait=notifier.alive,
            spent=ledger.spent,
        )
        if config.training.min_duration_seconds > 0.0:
            worker = LastingTrainer(worker, config.training.min_duration_seconds, watched)
        building.callback(worker.stop, _CHILD_GRACE_S)

        def heartbeat(task: str) -> Heartbeat:
            return Heartbeat(
                coordinator,
                task,
                clock=clock,
                interval_s=config.poll.heartbeat_seconds,
                on_abandon=worker.abandon,
            )

        cache = ModelCache(state.models, coordinator)
        attempts = config.training.max_attempts
        parts = Parts(
            config=config,
            coordinator=coordinator,
            trainer=worker,
            outbox=outbox,
            cache=cache,
            train=TrainFromHead(
                worker,
                outbox,
                cache,
                state.work,
                clock,
                metrics,
                heartbeat,
                subjects.generation,
                residuals.commit,
                _pay(privacy, worker),
            ),
            answer=AnswerErasure(
                worker,
                outbox,
                cache,
                coordinator,
                state.work,
                attempts,
                heartbeat,
                subjects,
                Recompute(
                    worker,
                    outbox,
                    subjects,
                    index,
                    ExchangeLog(tables),
                    coordinator,
                    key,
                    state.exchange,
                    state.work,
                    clock,
                    _RECOMPUTE_SLICE_S,
                    is_private=lambda ids: privacy is not None or ledger.holds_any(ids),
                ),
            ),
            flush=FlushOutbox(
                outbox,
                coordinator,
                metrics,
                clock,
                timedelta(hours=config.outbox.max_age_hours),
                subjects.generation,
                config.network.hours(),
            ),
            file_subjects=FileSubjects(
                subjects,
                coordinator,
                key,
                clock,
                timedelta(seconds=config.erasure.batch_window_seconds),
            ),
            index=partial(take_index, index=index, subjects=subjects, key=key),
            metrics=metrics,
            clock=watched,
            privacy=privacy,
            watch_log=watch_log,
            notifier=notifier,
            backoff=Backoff(_BACKOFF_BASE_S, max(_BACKOFF_BASE_S, config.poll.backoff_cap_seconds)),
        )
        closing = building.pop_all()
    return Running(Agent(parts), worker, coordinator, registry, closing, notifier)


def _privacy(
    config: AgentConfig, ledger: PrivacyLedger, metrics: AgentMetrics
) -> PrivacyAccount | None:
    """The account of a site that trains privately.

    Raises BadConfig for another unit than what was charged before.
    """
    if config.privacy is None:
        if ledger.updates():
            log.warning("privacy_off", extra={"charged_updates": ledger.updates()})
        return None
    ledger.check_unit(config.privacy.unit)
    if uncharged := ledger.uncharged_updates():
        log.warning("privacy_covers_later_updates_only", extra={"uncharged_updates": uncharged})

    def report(loss: PrivacyLoss) -> None:
        metrics.privacy_epsilon.labels(loss.unit).set(loss.epsilon)
        metrics.privacy_budget.labels(loss.unit).set(loss.budget)
        metrics.privacy_spent.labels(loss.unit).set(loss.is_spent)

    return PrivacyAccount(config.privacy, ledger, report)


def _pay(privacy: PrivacyAccount | None, trainer: Trainer) -> Callable[[str], None] | None:
    """Charges the next training of an update id; None where the site does not train privately."""
    if privacy is None:
        return None
    return lambda update_id: privacy.charge(update_id, trainer.quote())


def _demand_signatures(
    config: AgentConfig,
    coordinator: CoordinatorClient,
    state: StateDir,
    metrics: AgentMetrics,
    clock: Clock,
) -> Callable[[], None]:
    """What the agent asks of a coordinator whose key it was given; answers the watch of its log."""
    if config.coordinator_key is None:
        return lambda: None

    def refused(kind: str) -> None:
        metrics.not_trusted.labels(kind).inc()

    def report(suspicion: Suspicion | None, size: int) -> None:
        metrics.log_refused.set(0 if suspicion is None else 1)
        if suspicion is None:
            metrics.log_size.set(size)
        else:
            refused(suspicion.value)

    pinned, listed = read_pinned(config.coordinator_key)
    trust = CoordinatorTrust(pinned, coordinator.coordinator_keys, refused, listed)
    coordinator.trust_only(trust)
    files = LogFiles(state.log)
    return WatchLog(files, coordinator, trust, clock, config.log_check_seconds, report)


def _renewal(
    config: AgentConfig, coordinator: CoordinatorClient, metrics: AgentMetrics, clock: Clock
) -> RenewalThread:
    files = route_to(config.coordinator, config.tls, config.network).tls
    if files is None or files.certificate is None or files.key is None:
        raise BadConfig("tls.renew is of use with a certificate and its key only", key="tls.renew")
    return RenewalThread(
        Renewal(
            files.certificate,
            files.key,
            config.site,
            coordinator.renew_certificate,
            clock,
            on_certificate=lambda ends: metrics.certificate_end.set(ends.timestamp()),
        ),
        Backoff(_RENEWAL_BACKOFF_S, _RENEWAL_BACKOFF_CAP_S),
    )


def _connect(
    config: AgentConfig, metrics: AgentMetrics, clock: Clock, watched: Clock, notifier: Notifier
) -> CoordinatorClient:
    network = config.network
    route = route_to(config.coordinator, config.tls, network)
    if route.tls is not None and route.tls.certificate is not None:
        end = certificates_in(route.tls.certificate, "certificate")[0].not_valid_after_utc
        metrics.certificate_end.set(end.timestamp())
        if end <= clock.now():
            log.error("certificate_expired", extra={"not_after": end.isoformat()})
    up, down = network.upload_bytes_per_second, network.download_bytes_per_second
    return CoordinatorClient(
        config.coordinator,
        config.site,
        on_contact=lambda: metrics.last_contact.set(clock.now().timestamp()),
        on_progress=notifier.alive,
        route=route,
        upload_limit=None if up is None else RateLimit(up, clock),
        # The loop itself waits for the pieces of a download.
        download_limit=None if down is None else RateLimit(down, watched),
    )
