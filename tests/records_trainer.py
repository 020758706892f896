"""A trainer of the agent without torch, whose records have patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.record_index import RecordIndex
from client_agent.adapters.sqlite_subjects import SqliteSubjects
from client_agent.domain.answers import ForgetStatistic, Utility
from client_agent.domain.subjects import IndexedRecord, SiteKey, without
from client_agent.domain.tasks import ModelFile, TrainTask
from client_agent.domain.upload import Payload
from client_agent.ports import ErasePatch, Holdings, TrainedDelta
from letheon.errors import Refused
from letheon.federation.encoding import encode
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan
from letheon.servicekit.clock import SystemClock

FEWEST = 8  # records that anything is told of
CONFIG = """
coordinator = "{address}"
site = "{site}"
state_dir = "{state}"
[data]
plugin = "unused"
[training]
min_interval_seconds = {interval}
[poll]
minimum_seconds = 0.01
maximum_seconds = 0.1
heartbeat_seconds = 0.05
backoff_cap_seconds = 0.5
"""


def delta_of(record_ids: Sequence[str | None], base: Vector, seed: int) -> Vector:
    """A delta that depends on every record, on the base and on the seed."""
    total, left = np.zeros(base.size), [one for one in record_ids if one is not None]
    for one in left:
        number = int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "big")
        total += np.random.default_rng(number).normal(size=base.size)
    noise = np.random.default_rng(seed).normal(size=base.size)
    mean = total / max(1, len(left))
    return (0.05 * mean + 0.03 * noise - 0.02 * base).astype(np.float32)


class RecordsTrainer:
    """The `Trainer` port without torch; knows its patients, as a source does."""

    def __init__(self, state: Path, patients: Mapping[str, int]) -> None:
        self._state = state
        self._rows = [(f"{p}-scan-{i}", p) for p, count in patients.items() for i in range(count)]
        self._subjects: SqliteSubjects | None = None
        self.plan: Plan | None = None
        self.trained: list[tuple[int, int, tuple[str, ...]]] = []  # base, seed, records
        self.retrained: list[tuple[int, int, tuple[str, ...]]] = []
        self.clean_from_epoch = 0  # versions of earlier ones know what is erased

    def open(self) -> Holdings:
        ids, index = self._state / "ids.json", self._state / "index.json"
        ids.write_text(json.dumps(self._usable()))
        index.write_text(json.dumps([[r.record, r.patient] for r in self._indexed()]))
        fingerprint = hashlib.sha256(ids.read_bytes()).hexdigest()
        counts = {"sick": len(self._rows), "well": 10}
        return Holdings(len(self._rows), 200, 5, counts, fingerprint, ids, index)

    def adopt(self, plan: Plan) -> None:
        self.plan = plan

    def train(self, base: ModelFile, task: TrainTask, target: Path) -> TrainedDelta:
        ids = self._usable()
        self.trained.append((base.version, task.seed, tuple(ids)))
        payload = self._payload(delta_of(ids, np.fromfile(base.path, "<f4"), task.seed), target)
        return TrainedDelta(payload, 0.5, 4, self.open())

    def retrain(
        self, base: ModelFile, record_ids: Path, rate: float, seed: int, target: Path
    ) -> Payload:
        ids = json.loads(record_ids.read_text())
        self.retrained.append((base.version, seed, tuple(ids)))
        return self._payload(delta_of(ids, np.fromfile(base.path, "<f4"), seed), target)

    def evaluate(self, model: ModelFile) -> Utility:
        return Utility(model.version, 50, 0.9, 0.9, None, 0.3)

    def audit(self, model: ModelFile, seed: int) -> ForgetStatistic:
        raise Refused("nobody erases the whole site here")

    def audit_subject(self, model: ModelFile, seed: int, tokens: Sequence[str]) -> ForgetStatistic:
        left = without(self._indexed(), self._key(), frozenset(tokens))
        if len(self._rows) - len(left) < FEWEST:
            raise Refused("too few records to tell")
        auc = 0.9 if model.epoch < self.clean_from_epoch else 0.5
        gap = auc - 0.5
        return ForgetStatistic(
            model.version, 256, 200, auc, auc - 0.03, auc + 0.03, 0.4 if gap else 0.01,
            0.9, 0.9 - gap, gap - 0.03, gap + 0.03, 0.2, 0.3,
        )  # fmt: skip

    def erase(
        self, model: ModelFile, parameters: Mapping[str, Any], seed: int, target: Path
    ) -> ErasePatch:
        raise Refused("no ascent here")

    def abandon(self) -> None: ...

    def stop(self, grace_s: float) -> None:
        if self._subjects is not None:
            self._subjects = None

    def _key(self) -> SiteKey:
        return SiteKey((self._state / "site.key").read_bytes())

    def _indexed(self) -> list[IndexedRecord]:
        key = self._key()
        return [IndexedRecord(record, key.of_patient(patient)) for record, patient in self._rows]

    def _usable(self) -> list[str]:
        if self._subjects is None:
            tables = LocalTables(self._state / "agent.db")
            self._subjects = SqliteSubjects(tables, RecordIndex(tables), SystemClock())
        return without(self._indexed(), self._key(), self._subjects.excluded())

    def _payload(self, delta: Vector, target: Path) -> Payload:
        assert self.plan is not None
        content = encode(delta, self.plan.encoding)
        target.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return Payload(target, len(content), digest, self.plan.encoding)
