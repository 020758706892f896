"""One local training: the plan's SGD, or the site's own code where the site has some."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from client_agent.domain.tasks import TaskAbandoned
from letheon.errors import MalformedUpdate, TrainingCodeFailed
from letheon.federation.plan import Plan
from letheon.imaging.records import Indices, Records
from letheon.imaging.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

    from letheon.site.code import TrainingCode

log = logging.getLogger(__name__)

ERROR_FILE = "training_code_error.txt"
_LOSS_RECORDS = 256  # at most, to measure a loss that the code did not tell


@dataclass(frozen=True)
class Trained:
    """What came of a training; the weights are in the module."""

    mean_loss: float
    steps: int
    num_examples: int | None
    """What the site weighs by, if not by its records: their number must not tell an exclusion."""


@dataclass(frozen=True)
class LocalSteps:
    """Trains the network of a plan, from the weights that are in it."""

    plan: Plan
    task: Task
    module: nn.Module
    mixed_precision: bool = False

    def by_plan(
        self,
        records: Records,
        *,
        learning_rate: float,
        seed: int,
        should_abandon: Callable[[], bool],
        places: Indices | None = None,
    ) -> Trained:
        """The plan's local steps; `places` as `train_locally`. Raises TaskAbandoned."""
        from letheon.imaging.local_training import LocalTraining, train_locally

        told = self.plan.training
        settings = LocalTraining(
            steps=told.local_steps,
            batch_size=told.batch_size,
            learning_rate=learning_rate,
            momentum=told.momentum,
            clip_norm=told.clip_norm,
            weight_decay=told.weight_decay,
            mixed_precision=self.mixed_precision,
        )
        outcome = train_locally(
            self.module,
            records,
            settings,
            seed,
            should_abandon,
            loss_of=self.task.loss,
            places=places,
        )
        if outcome.abandoned:
            raise TaskAbandoned
        return Trained(outcome.mean_loss, outcome.steps, None)

    def by_code(
        self,
        code: SiteCode,
        records: Records,
        *,
        learning_rate: float,
        seed: int,
        should_abandon: Callable[[], bool],
        places: Indices | None = None,
    ) -> Trained:
        """The site's own code, on a copy of the network and read-only pixels.

        Raises TaskAbandoned, TrainingCodeFailed or MalformedUpdate.
        """
        from letheon.imaging.models.weights import write_weights
        from letheon.site.code import run_code
        from letheon.site.prepare import make_job

        job = make_job(
            self.plan,
            self.task,
            self.module,
            records,
            learning_rate=learning_rate,
            seed=seed,
            should_stop=should_abandon,
            arguments=code.arguments,
            places=places,
        )
        try:
            sent = run_code(code.code, job)
        except (TrainingCodeFailed, MalformedUpdate) as error:
            if should_abandon():
                raise TaskAbandoned from error
            if isinstance(error, TrainingCodeFailed):
                raise code.told_where(error) from error
            raise
        if should_abandon():
            raise TaskAbandoned
        write_weights(self.module, sent.weights)
        fields = {"num_examples": sent.num_examples, "metrics": dict(sent.metrics)}
        log.info("training_code_sent", extra=fields)
        loss = self._loss(records) if sent.loss is None else sent.loss
        told = sent.num_examples
        return Trained(loss, self.plan.training.local_steps, None if told == len(records) else told)

    def _loss(self, records: Records) -> float:
        some = records.select(np.arange(min(len(records), _LOSS_RECORDS)))
        losses, _ = self.task.judge_records(self.module, some)
        return float(np.mean(losses))


@dataclass(frozen=True)
class SiteCode:
    """The site's own code as configured."""

    code: TrainingCode
    arguments: Mapping[str, Any]
    folder: Path  # of the site alone, for the full text of an error

    def told_where(self, error: TrainingCodeFailed) -> TrainingCodeFailed:
        """The error with the file that holds its full text; logs may not: it can quote a record."""
        cause = error.__cause__
        if cause is None:
            return error
        path = self.folder / ERROR_FILE
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(cause)))
        return TrainingCodeFailed(f"{error.message}; its full text is in {path}", **error.facts)
