"""Makes the site's past deltas again without some records: what an exchange is made of.

One delta at a time, each durable before the next, so that a kill costs one training at most; and
every few seconds the agent asks for other work, so that nobody waits for hours. Training waits
until it is done: the coordinator hands out no train task beside it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from client_agent.domain.answers import EraseAnswer
from client_agent.domain.privacy import NOT_MADE_AGAIN
from client_agent.domain.subjects import Recomputation, SiteKey, without
from client_agent.domain.tasks import EraseTask, MergedDelta, ModelFile
from client_agent.domain.upload import DeltaFacts, Payload, Upload
from client_agent.ports import (
    Coordinator,
    ExchangeLog,
    Outbox,
    RecordIndex,
    Subjects,
    Trainer,
)
from letheon.errors import PayloadCorrupt, Refused
from letheon.federation.arithmetic import accumulate, norm, subtract
from letheon.federation.encoding import decode, encode
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan
from letheon.names import base_name, contribution_name
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

log = logging.getLogger(__name__)
_SAFE = re.compile(r"[^a-z0-9-]")


@dataclass(frozen=True)
class Recompute:
    """The use case; each call makes a slice of the deltas, the last one the answer."""

    trainer: Trainer
    outbox: Outbox
    subjects: Subjects
    index: RecordIndex
    log: ExchangeLog
    coordinator: Coordinator
    key: SiteKey
    sums: Path  # folder of sums that outlive the process
    work: Path
    clock: Clock
    slice_s: float = 0.0  # of one call, after at least one delta
    is_private: Callable[[Sequence[str]], bool] = lambda _: False
    """Of update ids: whether any of these deltas, or what would be made now, is private."""
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))

    def __call__(self, task: EraseTask, plan: Plan) -> bool:
        """Whether the answer is in the outbox now.

        Raises Refused, or what download and trainer raise, for a delta that cannot be made again.
        """
        if self.subjects.by_reference(task.records) is None:
            raise Refused("this site knows no records under the reference of this erasure")
        if self.is_private([delta.update_id for delta in task.deltas]):
            raise Refused(NOT_MADE_AGAIN)
        now = self.log.begin(task.name, self.subjects.generation(), self.new_id())
        if now.done < len(task.deltas):
            end = self.clock.monotonic() + self.slice_s
            while now.done < len(task.deltas):
                now = self._step(task, now, plan)
                if self.clock.monotonic() >= end:
                    break
            return False
        self._answer(task, now, plan)
        return True

    def forget(self, task: str) -> None:
        """Drops what was kept of a task."""
        self.log.end(task)
        for path in self.sums.glob(f"{_file_stem(task)}-*"):
            path.unlink()

    def _step(self, task: EraseTask, now: Recomputation, plan: Plan) -> Recomputation:
        delta = task.deltas[now.done]
        total = self._sum(task.name, now.done, plan)
        made = self._made(task, delta, now, plan)
        if made is not None:
            accumulate(total, delta.coefficient, made)
        done = now.done + 1
        _write(self._path(task.name, done), total)
        reach("agent.recomputed")
        self.log.step(task.name, done)
        self._path(task.name, now.done).unlink(missing_ok=True)
        log.info(
            "delta_recomputed", extra={"task": task.name, "done": done, "of": len(task.deltas)}
        )
        return replace(now, done=done)

    def _made(
        self, task: EraseTask, delta: MergedDelta, now: Recomputation, plan: Plan
    ) -> Vector | None:
        """The delta [d] as it would have been; None if nothing is left to train on."""
        facts = self.outbox.facts_of(delta.update_id)
        if facts is None:
            raise Refused("the contribution log of this site does not know one of its deltas")
        left = self._records(facts, now)
        if not any(left):
            return None
        ids, target = self.work / "record_ids.json", self.work / now.update_id
        base = self.coordinator.download_named(
            base_name(task.erasure, delta.base_version), self.work / "base"
        )
        try:
            _write_private(ids, json.dumps(left).encode())
            payload = self.trainer.retrain(base, ids, facts.learning_rate, facts.seed, target)
            return np.array(decode(payload.path.read_bytes(), plan.patch_encoding))
        finally:
            for path in (ids, target, base.path):
                path.unlink(missing_ok=True)

    def _records(self, facts: DeltaFacts, now: Recomputation) -> list[str | None]:
        """What the delta was trained on, None in the place of what is left out."""
        trained_on = self.index.record_set(facts.record_set)
        if trained_on is None:
            raise Refused("this site does not know any more what one of its deltas was trained on")
        excluded = self.subjects.excluded(now.exclusions)
        known = self.index.of(one for one in trained_on if one is not None)
        left = frozenset(without(known, self.key, excluded))
        return [one if one in left else None for one in trained_on]

    def _answer(self, task: EraseTask, now: Recomputation, plan: Plan) -> None:
        """What the recomputed deltas add, minus what the site had added: the patch [d]."""
        patch = self._sum(task.name, now.done, plan)
        held = self.coordinator.download_named(
            contribution_name(task.erasure), self.work / "contribution"
        )
        subtract(patch, _read(held, plan))
        held.path.unlink(missing_ok=True)
        encoded = encode(patch, plan.patch_encoding)
        path = self.work / now.update_id
        _write_bytes(path, encoded)
        payload = Payload(
            path, len(encoded), hashlib.sha256(encoded).hexdigest(), plan.patch_encoding
        )
        answer = EraseAnswer(now.update_id, norm(patch), len(task.deltas), 0.0, 0.0)
        self.outbox.add(Upload(now.update_id, task.name, payload, answer))
        reach("agent.stored")
        self.forget(task.name)

    def _sum(self, task: str, done: int, plan: Plan) -> Vector:
        """What the first `done` recomputed deltas add. [d]"""
        size = plan.parameters.size
        if done == 0:
            return np.zeros(size, dtype=np.float32)
        path = self._path(task, done)
        try:
            total = np.fromfile(path, dtype="<f4").astype(np.float32, copy=False)
        except OSError as error:
            raise PayloadCorrupt("the sum of the recomputed deltas is gone from disk") from error
        if total.size != size:
            raise PayloadCorrupt("the sum of the recomputed deltas is not whole on disk")
        return total

    def _path(self, task: str, done: int) -> Path:
        return self.sums / f"{_file_stem(task)}-{done}.f32"


def _file_stem(task: str) -> str:
    return _SAFE.sub("-", task)


def _read(model: ModelFile, plan: Plan) -> Vector:
    vector = np.fromfile(model.path, dtype="<f4").astype(np.float32, copy=False)
    if vector.size != plan.parameters.size:
        raise PayloadCorrupt(f"a contribution of {plan.parameters.size} values is due")
    return vector


def _write(path: Path, vector: Vector) -> None:
    _write_bytes(path, vector.astype("<f4", copy=False).tobytes())


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _write_bytes(path: Path, content: bytes) -> None:
    """There whole or not at all, and durable."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
