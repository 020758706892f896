"""Evaluate, audit and erase tasks: what an erasure asks of a site."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client_agent.domain.answers import (
    AuditAnswer,
    EraseAnswer,
    EvaluateAnswer,
    ExcludeAnswer,
    ForgetStatistic,
    InvalidateAnswer,
    TaskFailure,
)
from client_agent.domain.tasks import (
    AnswerTask,
    AuditTask,
    EraseTask,
    EvaluateTask,
    ExcludeTask,
    InvalidateTask,
    TaskAbandoned,
    TaskOutcome,
    TrainingProcessDied,
)
from client_agent.domain.upload import Upload
from client_agent.ports import Coordinator, Outbox, Subjects, Trainer
from client_agent.services.model_cache import ModelCache
from client_agent.services.pulse import Heartbeat
from client_agent.services.recompute import Recompute
from letheon import registry
from letheon.errors import (
    BadConfig,
    BadData,
    BadInput,
    Corrupt,
    InternalFault,
    LetheonError,
    MalformedRequest,
    ModelDestroyed,
    NotFound,
    Refused,
    StorageUnavailable,
    UnknownModelVersion,
    UnknownPlugin,
    UnknownSite,
)
from letheon.federation.plan import Plan
from letheon.servicekit.faults import reach

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerErasure:
    """The use case. A task that cannot be done is answered too: silence would stall an erasure."""

    trainer: Trainer
    outbox: Outbox
    cache: ModelCache
    coordinator: Coordinator
    work: Path
    max_attempts: int
    heartbeat: Callable[[str], Heartbeat]
    subjects: Subjects
    recompute: Recompute
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))

    def __call__(self, task: AnswerTask, plan: Plan) -> TaskOutcome:
        """Does the task once and answers it; of a recomputation, one delta.

        Raises what says nothing of the task (Unavailable, Busy, UnknownSite); the coordinator
        hands it out again then.
        """
        if any(upload.task == task.name for upload in self.outbox.waiting()):
            return TaskOutcome.DONE  # computed before; its upload is on its way
        if self.outbox.begin_attempt(task.name) > self.max_attempts:
            return self._give_up(task, "every attempt at this task ended before its answer arrived")
        try:
            with self.heartbeat(task.name):
                self._do(task, plan)
        except TaskAbandoned:
            self.outbox.end_attempts(task.name)
            return TaskOutcome.SUPERSEDED
        except TrainingProcessDied:
            return TaskOutcome.CRASHED  # handed out again; the attempt stays counted
        except UnknownSite:
            self.outbox.end_attempts(task.name)
            raise
        except (UnknownModelVersion, ModelDestroyed) as error:
            return self._give_up(task, f"a model version is not there: {error.reason}")
        except NotFound as error:
            log.info("task_withdrawn", extra={"task": task.name, "reason": error.reason})
            self.outbox.end_attempts(task.name)
            return TaskOutcome.WITHDRAWN
        except (BadInput, Refused, Corrupt, InternalFault) as error:
            return self._give_up(task, _sentence(error))
        except (LetheonError, OSError):
            self.outbox.end_attempts(task.name)  # the network or the disk failed, not the task
            raise
        return TaskOutcome.DONE

    def _do(self, task: AnswerTask, plan: Plan) -> None:
        match task:
            case ExcludeTask(name, erasure, records):
                found = self.subjects.exclude(records, erasure)
                log.info("records_excluded", extra={"erasure": erasure, "found": found})
                reach("agent.excluded")
                self.coordinator.submit(name, ExcludeAnswer(found))
                self.outbox.end_attempts(name)
            case EvaluateTask(name, versions):
                utilities = [self.trainer.evaluate(self.cache.version(v)) for v in versions]
                self.coordinator.submit(name, EvaluateAnswer(tuple(utilities)))
                self.outbox.end_attempts(name)
            case AuditTask(name, _, versions, seed, records):
                statistics = [self._audited(version, seed, records) for version in versions]
                self.coordinator.submit(name, AuditAnswer(tuple(statistics)))
                self.outbox.end_attempts(name)
            case InvalidateTask(name, erasure, first, last):
                removed = self.cache.forget_versions(first, last)
                fields = {"erasure": erasure, "first_version": first, "last_version": last}
                log.info("versions_invalidated", extra={**fields, "copies_removed": removed})
                self.coordinator.submit(name, InvalidateAnswer(removed))
                self.outbox.end_attempts(name)
            case EraseTask() if task.records:
                self.recompute(task, plan)
                self.outbox.end_attempts(task.name)  # each delta has its own
            case EraseTask():
                self._erase(task)

    def _audited(self, version: int, seed: int, records: str) -> ForgetStatistic:
        model = self.cache.version(version)
        if not records:
            return self.trainer.audit(model, seed)
        subject = self.subjects.by_reference(records)
        if subject is None:
            raise Refused("this site knows no records under the reference of this erasure")
        return self.trainer.audit_subject(model, seed, subject.tokens)

    def _erase(self, task: EraseTask) -> None:
        """Leaves payload and answer in the outbox; they go out with the next flush."""
        if task.method not in registry.names(registry.UNLEARNING):
            raise UnknownPlugin(f"method {task.method!r} is not installed at this site")
        update_id = self.new_id()
        patch = self.trainer.erase(
            self.cache.version(task.version),
            _parameters(task),
            task.seed,
            self.work / update_id,
        )
        answer = EraseAnswer(
            update_id, patch.norm, patch.steps, patch.loss_before, patch.loss_after
        )
        try:
            reach("agent.trained")
            self.outbox.add(Upload(update_id, task.name, patch.payload, answer))
        except (StorageUnavailable, OSError):
            patch.payload.path.unlink(missing_ok=True)  # the open task is handed out again
            raise
        reach("agent.stored")

    def _give_up(self, task: AnswerTask, reason: str) -> TaskOutcome:
        log.error("task_failed", extra={"task": task.name, "why": reason})
        try:
            self.coordinator.submit(task.name, TaskFailure(reason))
        except UnknownSite:
            raise
        except NotFound:
            log.info("task_withdrawn", extra={"task": task.name})
        self.outbox.end_attempts(task.name)
        self.recompute.forget(task.name)
        return TaskOutcome.FAILED


def _parameters(task: EraseTask) -> dict[str, Any]:
    try:
        parameters = json.loads(task.parameters_json or "{}")
    except ValueError as error:
        raise MalformedRequest("the parameters of the erase task are not JSON") from error
    if not isinstance(parameters, dict):
        raise MalformedRequest("the parameters of the erase task are not a JSON object")
    return parameters


def _sentence(error: LetheonError) -> str:
    """Leaves the site, so it must name neither records nor the site's files and folders."""
    if isinstance(error, BadData | BadConfig):
        return f"{error.reason}: the site's data cannot be used; its agent's log says why"
    return f"{error.reason}: {error.message}"
