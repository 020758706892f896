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
from letheon.errors import InternalFault, LetheonError
from letheon.servicekit import tracing
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
        exclusions: Callable[[], int],
        delta_stored: Callable[[str], None] = lambda _: None,
        charge: Callable[[str], None] | None = None,
    ) -> None:
        """`exclusions` is the generation of what may not be used.

        `charge` is there where the site trains privately; it is told the update id before
        anything is trained, and may refuse.
        """
        self._trainer = trainer
        self._outbox = outbox
        self._cache = cache
        self._work = work
        self._clock = clock
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._delta_stored = delta_stored
        self._exclusions = exclusions
        self._charge = charge
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
            base = self._fetch()
            if base.epoch != task.epoch or heartbeat.is_abandoned:
                return TaskOutcome.SUPERSEDED
            began = self._clock.monotonic()
            exclusions = self._exclusions()
            update_id = str(uuid.uuid4())
            if self._charge is not None:
                self._charge(update_id)
            try:
                with tracing.span("update.train"):
                    trained = self._train(base, task, self._work / update_id)
            except TaskAbandoned:
                return TaskOutcome.SUPERSEDED
        if self._exclusions() != exclusions:
            # The hospital excluded records meanwhile: what holds them is not even kept.
            trained.payload.path.unlink(missing_ok=True)
            return TaskOutcome.SUPERSEDED
        self._metrics.train_seconds.observe(self._clock.monotonic() - began, tracing.exemplar())
        self._store(_described(update_id, task, base, trained, exclusions))
        return TaskOutcome.DONE

    def _fetch(self) -> ModelFile:
        began = self._clock.monotonic()
        with tracing.span("update.download"):
            base = self._cache.head()
        seconds = self._clock.monotonic() - began
        self._metrics.download_seconds.observe(seconds, tracing.exemplar())
        return base

    def _train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        try:
            trained = self._trainer.train(base, task, target)
            self._check(trained)
        except (LetheonError, OSError):
            target.unlink(missing_ok=True)  # room for the next try
            raise
        return trained

    def _check(self, trained: TrainedDelta) -> None:
        if self._charge is not None and not trained.is_private:
            raise InternalFault("an update was not trained as [privacy] says: it is dropped")

    def _store(self, trained: _Trained) -> None:
        self._unstored = trained
        reach("agent.trained")
        self._outbox.remember_records(trained.record_set, trained.record_ids)
        self._outbox.add(trained.upload)
        self._unstored = None
        self._delta_stored(trained.upload.update_id)
        reach("agent.stored")


def _described(
    update_id: str, task: TrainTask, base: ModelFile, trained: TrainedDelta, exclusions: int
) -> _Trained:
    holdings = trained.holdings
    record_ids = json.loads(holdings.record_set_file.read_text(encoding="utf-8"))
    facts = DeltaFacts(
        base_version=base.version,
        epoch=task.epoch,
        seed=task.seed,
        learning_rate=task.learning_rate,
        exclusion_counter=task.exclusion_counter,
        record_count=trained.num_examples or holdings.train_records,
        # A loss of the training records is not private: it stays here.
        train_loss=0.0 if trained.is_private else trained.mean_loss,
        record_set=holdings.record_set,
        exclusions=exclusions,
    )
    fields = {"task": task.name, "base_version": base.version, "steps": trained.steps}
    log.info("delta_trained", extra={**fields, "mean_loss": round(trained.mean_loss, 4)})
    upload = Upload(update_id, task.name, trained.payload, facts)
    return _Trained(upload, holdings.record_set, record_ids)
