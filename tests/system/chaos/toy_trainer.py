"""A trainer without torch: least squares towards a target of the site, and plausible answers."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client_agent.domain.answers import ForgetStatistic, Utility
from client_agent.domain.tasks import ModelFile, TaskAbandoned, TrainTask
from client_agent.domain.upload import Payload
from client_agent.ports import ErasePatch, Holdings, TrainedDelta
from letheon.errors import MethodRefused
from letheon.federation.encoding import encode
from letheon.federation.plan import Plan

_STEP = 0.2
_NOISE = 1e-3
_RECORDS = {"erased_records": 400, "control_records": 200}
_MEMBER_AUC, _FORGOTTEN_AUC, _HALF_WIDTH = 0.7, 0.5, 0.03


class ToyTrainer:
    """`arguments`: `seed` makes the site's target, `seconds` is what one training takes."""

    def __init__(self, folder: Path, *, seed: int, seconds: float) -> None:
        self._folder = folder
        self._seed, self._seconds = seed, seconds
        self._plan: Plan | None = None
        self._given_up = threading.Event()
        self._stopped = False
        self._first_audited: dict[int, int] = {}

    def open(self) -> Holdings:
        """The same three records at every start."""
        ids = self._folder / "records.json"
        ids.write_text(json.dumps([f"record-{self._seed}-{n}" for n in range(3)]))
        return Holdings(3, 200, 1, {"sick": 2, "well": 1}, f"set-{self._seed}", ids)

    def adopt(self, plan: Plan) -> None:
        """Any plan will do."""
        self._plan = plan

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        """A step from the base towards the target."""
        self._given_up.clear()
        if self._given_up.wait(self._seconds) or self._stopped:
            raise TaskAbandoned
        weights = np.fromfile(base.path, dtype="<f4")
        goal = np.random.default_rng(self._seed).normal(size=weights.size).astype(np.float32)
        # Two trainings of a site never send the same bytes.
        noise = np.random.default_rng(abs(task.seed)).normal(scale=_NOISE, size=weights.size)
        delta = (_STEP * (goal - weights) + noise).astype(np.float32)
        loss = float(np.mean(np.square(goal - weights)))
        return TrainedDelta(self._write(delta, target), loss, 1, self.open())

    def evaluate(self, model: ModelFile) -> Utility:
        """Useful, but for every seventh version: the gate is passed after an attempt or two."""
        accuracy = 0.5 if model.version % 7 == 3 else 0.9
        return Utility(model.version, 100, accuracy, accuracy, None, 1 - accuracy)

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        """A member in the version an erasure asked about first, which is from before it."""
        first = min(model.version, self._first_audited.get(seed, model.version))
        self._first_audited[seed] = first
        auc = _MEMBER_AUC if model.version == first else _FORGOTTEN_AUC
        gap = auc - 0.5
        return ForgetStatistic(
            version=model.version,
            **_RECORDS,
            auc=auc,
            auc_low=auc - _HALF_WIDTH,
            auc_high=auc + _HALF_WIDTH,
            tpr_at_1pct_fpr=0.2 if gap else 0.01,
            accuracy_erased=0.9,
            accuracy_control=0.9 - gap,
            accuracy_gap_low=gap - _HALF_WIDTH,
            accuracy_gap_high=gap + _HALF_WIDTH,
            mean_loss_erased=0.2,
            mean_loss_control=0.3,
        )

    def erase(
        self, model: ModelFile, parameters: Mapping[str, Any], seed: int, target: Path
    ) -> ErasePatch:
        """No method of this federation asks the site to take part."""
        raise MethodRefused("the toy task knows no ascent")

    def abandon(self) -> None:
        """Ends a training in flight."""
        self._given_up.set()

    def stop(self, grace_s: float) -> None:
        """No further training."""
        self._stopped = True
        self._given_up.set()

    def _write(self, delta: np.ndarray, target: Path) -> Payload:
        if self._plan is None:
            raise RuntimeError("adopt comes first")
        content = encode(delta, self._plan.encoding)
        with target.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        digest = hashlib.sha256(content).hexdigest()
        return Payload(target, len(content), digest, self._plan.encoding)
