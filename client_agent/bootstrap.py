"""The object graph of an agent; the only file that names concrete adapters."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import CollectorRegistry

from client_agent.adapters.coordinator_client import CoordinatorClient
from client_agent.adapters.lasting_trainer import LastingTrainer
from client_agent.adapters.sqlite_outbox import SqliteOutbox
from client_agent.adapters.state_dir import occupy
from client_agent.adapters.trainer_process import TrainerProcess
from client_agent.agent import Agent, Parts
from client_agent.config import AgentConfig
from client_agent.metrics import AgentMetrics
from client_agent.ports import Trainer
from client_agent.services.answer_task import AnswerErasure
from client_agent.services.flush_outbox import FlushOutbox
from client_agent.services.model_cache import ModelCache
from client_agent.services.pulse import Heartbeat
from client_agent.services.train_task import TrainFromHead
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.metrics import serve_metrics

log = logging.getLogger(__name__)

_BACKOFF_BASE_S = 0.5
_CHILD_GRACE_S = 2.0


@dataclass(frozen=True)
class Running:
    """An agent and what has to be closed with it."""

    agent: Agent
    trainer: Trainer
    coordinator: CoordinatorClient
    registry: CollectorRegistry
    closing: ExitStack

    def stop(self) -> None:
        """Ends the agent's `run` from any thread, wherever it waits."""
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

    Raises BadConfig if the state directory or the metrics address is taken.
    """
    clock = clock or SystemClock()
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry)
    with ExitStack() as building:
        state = occupy(config.state_dir.absolute())
        building.callback(state.release)
        outbox = SqliteOutbox(state.database, state.outbox, clock)
        building.callback(outbox.close_database)
        if config.metrics_listen is not None:
            address, close = serve_metrics(config.metrics_listen, registry)
            building.callback(close)
            log.info("metrics_served", extra={"address": address})
        coordinator = CoordinatorClient(
            config.coordinator,
            config.site,
            on_contact=lambda: metrics.last_contact.set(clock.now().timestamp()),
        )
        building.callback(coordinator.close)
        worker = trainer or TrainerProcess(config, state.root, on_death=metrics.child_restarts.inc)
        if config.training.min_duration_seconds > 0.0:
            worker = LastingTrainer(worker, config.training.min_duration_seconds, clock)
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
            train=TrainFromHead(worker, outbox, cache, state.work, clock, metrics, heartbeat),
            answer=AnswerErasure(
                worker, outbox, cache, coordinator, state.work, attempts, heartbeat
            ),
            flush=FlushOutbox(
                outbox, coordinator, metrics, clock, timedelta(hours=config.outbox.max_age_hours)
            ),
            metrics=metrics,
            clock=clock,
            backoff=Backoff(_BACKOFF_BASE_S, max(_BACKOFF_BASE_S, config.poll.backoff_cap_seconds)),
        )
        closing = building.pop_all()
    return Running(Agent(parts), worker, coordinator, registry, closing)
