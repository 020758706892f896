"""One training task: download the head, train, put the delta into the outbox."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client_agent.domain.tasks import ModelFile, TaskAbandoned, TaskOutcome, TrainTask
from client_agent.domain.upload import DeltaFacts, Upload
from client_agent.metrics import AgentMetrics
from client_agent.ports import Outbox, TrainedDelta, Trainer
from client_agent.services.model_cache import ModelCache
from client_agent.services.pulse import Heartbeat
from letheon.errors import LetheonError
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Trained:
    """A delta on disk that the outbox does not hold yet."""

    upload: Upload
    record_set: str
    record_ids: list[str]


class TrainFromHead:
    """The use case; one call a task."""

    def __init__(
        self,
        trainer: Trainer,
        outbox: Outbox,
        cache: ModelCache,
        work: Path,
        clock: Clock,
        metrics: AgentMetrics,
        heartbeat: Callable[[str], Heartbeat],
    ) -> None:
        self._trainer = trainer
        self._outbox = outbox
        self._cache = cache
        self._work = work
        self._clock = clock
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._unstored: _Trained | None = None

    def __call__(self, task: TrainTask) -> TaskOutcome:
        """Trains once. The delta is durable when this returns DONE.

        A delta that the disk did not take waits in the scratch folder: the next call stores it
        and trains nothing. Raises what download and trainer raise; the outbox is then as before.
        """
        if self._unstored is not None:
            self._store(self._unstored)
            return TaskOutcome.DONE
        with self._heartbeat(task.name) as heartbeat:
            base = self._cache.head()
            if base.epoch != task.epoch or heartbeat.is_abandoned:
                return TaskOutcome.SUPERSEDED
            began = self._clock.monotonic()
            update_id = str(uuid.uuid4())
            try:
                trained = self._train(base, task, self._work / update_id)
            except TaskAbandoned:
                return TaskOutcome.SUPERSEDED
        self._metrics.train_seconds.observe(self._clock.monotonic() - began)
        self._store(_described(update_id, task, base, trained))
        return TaskOutcome.DONE

    def _train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        try:
            return self._trainer.train(base, task, target)
        except (LetheonError, OSError):
            target.unlink(missing_ok=True)  # room for the next try
            raise

    def _store(self, trained: _Trained) -> None:
        self._unstored = trained
        reach("agent.trained")
        self._outbox.remember_records(trained.record_set, trained.record_ids)
        self._outbox.add(trained.upload)
        self._unstored = None
        reach("agent.stored")


def _described(update_id: str, task: TrainTask, base: ModelFile, trained: TrainedDelta) -> _Trained:
    holdings = trained.holdings
    record_ids = json.loads(holdings.record_set_file.read_text(encoding="utf-8"))
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
    fields = {"task": task.name, "base_version": base.version, "steps": trained.steps}
    log.info("delta_trained", extra={**fields, "mean_loss": round(trained.mean_loss, 4)})
    upload = Upload(update_id, task.name, trained.payload, facts)
    return _Trained(upload, holdings.record_set, record_ids)
