"""A trainer whose local training takes at least so long, as on a slower machine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client_agent.domain.answers import ForgetStatistic, Utility
from client_agent.domain.privacy import PrivacyStanding, Quote
from client_agent.domain.tasks import ModelFile, TaskAbandoned, TrainTask
from client_agent.domain.upload import Payload
from client_agent.ports import ErasePatch, Holdings, TrainedDelta, Trainer
from letheon.federation.plan import Plan
from letheon.servicekit.clock import Clock


class LastingTrainer:
    """Another trainer, whose deltas are held back until `min_duration_s` after the start."""

    def __init__(self, trainer: Trainer, min_duration_s: float, clock: Clock) -> None:
        self._trainer = trainer
        self._min_duration_s = min_duration_s
        self._clock = clock
        self._state = threading.Lock()  # of the two below
        self._abandoned = threading.Event()
        self._stopped = False

    def open(self) -> Holdings:
        """As the trainer."""
        return self._trainer.open()

    def adopt(self, plan: Plan) -> PrivacyStanding | None:
        """As the trainer."""
        return self._trainer.adopt(plan)

    def quote(self) -> Quote:
        """As the trainer."""
        return self._trainer.quote()

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        """As the trainer, and not before the duration is over.

        Raises TaskAbandoned, the delta removed, if told so during the wait.
        """
        with self._state:
            if self._stopped:
                raise TaskAbandoned
            # A new event a training: nobody can take back the news that came for another.
            abandoned = self._abandoned = threading.Event()
        began = self._clock.monotonic()
        trained = self._trainer.train(base, task, target)
        left_s = began + self._min_duration_s - self._clock.monotonic()
        if left_s > 0.0 and self._clock.wait(abandoned, left_s):
            trained.payload.path.unlink(missing_ok=True)
            raise TaskAbandoned
        return trained

    def evaluate(self, model: ModelFile) -> Utility:
        """As the trainer."""
        return self._trainer.evaluate(model)

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        """As the trainer."""
        return self._trainer.audit(model, seed)

    def retrain(
        self, base: ModelFile, record_ids: Path, rate: float, seed: int, target: Path
    ) -> Payload:
        """As the trainer, as fast as it can."""
        return self._trainer.retrain(base, record_ids, rate, seed, target)

    def audit_subject(self, model: ModelFile, seed: int, tokens: Sequence[str]) -> ForgetStatistic:
        """As the trainer."""
        return self._trainer.audit_subject(model, seed, tokens)

    def erase(
        self, model: ModelFile, parameters: Mapping[str, Any], seed: int, target: Path
    ) -> ErasePatch:
        """As the trainer."""
        return self._trainer.erase(model, parameters, seed, target)

    def abandon(self) -> None:
        """Ends the command in flight or the wait after it."""
        with self._state:
            self._abandoned.set()
        self._trainer.abandon()

    def stop(self, grace_s: float) -> None:
        """As the trainer; a wait ends too."""
        with self._state:
            self._stopped = True
            self._abandoned.set()
        self._trainer.stop(grace_s)
