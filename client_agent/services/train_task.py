"""One training task: download the head, train, put the delta into the outbox."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client_agent.domain.tasks import ModelFile, TaskAbandoned, TaskOutcome, TrainTask
from client_agent.domain.upload import DeltaFacts, Upload
from client_agent.metrics import AgentMetrics
from client_agent.ports import Outbox, TrainedDelta, Trainer
from client_agent.services.model_cache import ModelCache
from client_agent.services.pulse import Heartbeat
from letheon.servicekit.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainFromHead:
    """The use case; one call a task."""

    trainer: Trainer
    outbox: Outbox
    cache: ModelCache
    work: Path
    clock: Clock
    metrics: AgentMetrics
    heartbeat: Callable[[str], Heartbeat]
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))

    def __call__(self, task: TrainTask) -> TaskOutcome:
        """Trains once. The delta is durable when this returns DONE.

        Raises what download and trainer raise; the outbox is then as before.
        """
        with self.heartbeat(task.name) as heartbeat:
            base = self.cache.head()
            if base.epoch != task.epoch or heartbeat.is_abandoned:
                return TaskOutcome.SUPERSEDED
            began = self.clock.monotonic()
            update_id = self.new_id()
            try:
                trained = self.trainer.train(base, task, self.work / update_id)
            except TaskAbandoned:
                return TaskOutcome.SUPERSEDED
        self.metrics.train_seconds.observe(self.clock.monotonic() - began)
        self._keep(task, base, update_id, trained)
        return TaskOutcome.DONE

    def _keep(
        self, task: TrainTask, base: ModelFile, update_id: str, trained: TrainedDelta
    ) -> None:
        holdings = trained.holdings
        record_ids = json.loads(holdings.record_set_file.read_text(encoding="utf-8"))
        self.outbox.remember_records(holdings.record_set, record_ids)
        facts = DeltaFacts(
            base_version=base.version,
            epoch=task.epoch,
            seed=task.seed,
            learning_rate=task.learning_rate,
            exclusion_counter=task.exclusion_counter,
            record_count=holdings.train_records,
            train_loss=trained.mean_loss,
            record_set=holdings.record_set,
        )
        self.outbox.add(Upload(update_id, task.name, trained.payload, facts))
        fields = {"task": task.name, "base_version": base.version, "steps": trained.steps}
        log.info("delta_trained", extra={**fields, "mean_loss": round(trained.mean_loss, 4)})
