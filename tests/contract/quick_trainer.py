"""A trainer without torch: answers at once, or does what a test tells it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client_agent.domain.answers import ForgetStatistic, Utility
from client_agent.domain.tasks import ModelFile, TaskAbandoned, TrainTask
from client_agent.domain.upload import Payload
from client_agent.ports import ErasePatch, Holdings, TrainedDelta
from letheon.federation.encoding import encode
from letheon.federation.plan import Plan

RECORD_IDS = ("scan-a", "scan-b", "scan-c")


class QuickTrainer:
    """`before_training` holds what happens instead of the next trainings: raise or wait."""

    def __init__(self, folder: Path) -> None:
        self._ids = folder / "ids.json"
        self._ids.write_text(json.dumps(RECORD_IDS))
        self._index = folder / "index.json"
        self._index.write_text(json.dumps([[one, None] for one in RECORD_IDS]))
        self.plan: Plan | None = None
        self.trained: list[tuple[int, int]] = []  # base version, seed
        self.audited: list[int] = []
        self.erased = 0
        self.retrained: list[tuple[int, int, tuple[str, ...]]] = []  # base, seed, records
        self.before_retraining: deque[Callable[[], None]] = deque()
        self.before_training: deque[Callable[[], None]] = deque()
        self.before_answering: deque[Callable[[], None]] = deque()
        self.skipped: dict[str, int] = {}
        self.gave_up = threading.Event()
        self.stopped = threading.Event()

    def open(self) -> Holdings:
        counts = {"sick": 2, "well": 1}
        return Holdings(3, 1, 1, counts, "fingerprint-1", self._ids, self._index, self.skipped)

    def adopt(self, plan: Plan) -> None:
        self.plan = plan

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        if self.before_training:
            self.before_training.popleft()()
        self.trained.append((base.version, task.seed))
        return TrainedDelta(self._payload(target, task.seed), 0.7, 2, self.open())

    def until_abandoned(self) -> None:
        """For `before_training`: works until told to stop."""
        self.gave_up.wait(30)
        self.gave_up.clear()
        raise TaskAbandoned

    def evaluate(self, model: ModelFile) -> Utility:
        if self.before_answering:
            self.before_answering.popleft()()
        return Utility(model.version, 1, 0.5, 0.5, None, 0.7)

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        if self.before_answering:
            self.before_answering.popleft()()
        self.audited.append(model.version)
        return ForgetStatistic(model.version, 3, 1, *([0.5] * 10))

    def retrain(
        self, base: ModelFile, record_ids: Path, rate: float, seed: int, target: Path
    ) -> Payload:
        ids = json.loads(record_ids.read_text())
        if self.before_retraining:
            self.before_retraining.popleft()()
        self.retrained.append((base.version, seed, tuple(ids)))
        return self._payload(target, seed, len(ids) / len(RECORD_IDS))

    def audit_subject(self, model: ModelFile, seed: int, tokens: Sequence[str]) -> ForgetStatistic:
        self.audited.append(model.version)
        return ForgetStatistic(model.version, 8, 1, *([0.5] * 10))

    def erase(
        self, model: ModelFile, parameters: Mapping[str, Any], seed: int, target: Path
    ) -> ErasePatch:
        if self.before_answering:
            self.before_answering.popleft()()
        self.erased += 1
        return ErasePatch(self._payload(target, seed), 1.5, 24, 0.1, 0.9)

    def abandon(self) -> None:
        self.gave_up.set()

    def stop(self, grace_s: float) -> None:
        self.stopped.set()
        self.gave_up.set()

    def _payload(self, target: Path, seed: int, share: float = 1.0) -> Payload:
        assert self.plan is not None
        delta = np.random.default_rng(seed).normal(size=self.plan.parameters.size)
        content = encode((share * delta).astype(np.float32), self.plan.encoding)
        target.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return Payload(target, len(content), digest, self.plan.encoding)
