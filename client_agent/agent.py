"""The loop of an agent: enrol, flush the outbox, ask, work; again and again.

    ENROL --> FLUSH --> ASK --> WORK --> FLUSH ...
      ^         |         |
      +---------+---------+   the coordinator does not know the site, or the plan is another

Each turn ends with how long to wait before the next. Whatever fails is tried again for ever,
except what only a human can mend: those errors leave `run`.
"""

from __future__ import annotations

import logging
import math
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client_agent.config import AgentConfig
from client_agent.domain.delay import come_back_after
from client_agent.domain.privacy import PrivacyBudgetSpent
from client_agent.domain.tasks import (
    AuditTask,
    EraseTask,
    EvaluateTask,
    ExcludeTask,
    GpuOutOfMemory,
    InvalidateTask,
    SiteDiskFailed,
    SiteState,
    Task,
    TaskOutcome,
    TrainingProcessDied,
    TrainTask,
    Wait,
)
from client_agent.domain.unreachable import cause_of, explain
from client_agent.metrics import AgentMetrics
from client_agent.ports import Coordinator, Holdings, Outbox, Trainer
from client_agent.services.answer_task import AnswerErasure
from client_agent.services.file_subjects import FileSubjects
from client_agent.services.flush_outbox import FlushOutbox
from client_agent.services.model_cache import ModelCache
from client_agent.services.privacy_account import PrivacyAccount
from client_agent.services.train_task import TrainFromHead
from letheon.errors import (
    BadConfig,
    BadData,
    Busy,
    CoordinatorUnreachable,
    LetheonError,
    MalformedName,
    StartOver,
    Unavailable,
    UnknownPlugin,
    UnknownSite,
    WrongPlan,
)
from letheon.federation.encoding import size_limits
from letheon.federation.plan import Plan
from letheon.servicekit import tracing
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.sd_notify import Notifier

log = logging.getLogger(__name__)

FOR_A_HUMAN = (BadConfig, BadData, UnknownPlugin, WrongPlan, MalformedName)
_KINDS: dict[type, str] = {
    TrainTask: "train",
    ExcludeTask: "exclude",
    EvaluateTask: "evaluate",
    AuditTask: "audit",
    EraseTask: "erase",
    InvalidateTask: "invalidate",
}
_CANNOT_TRAIN_POLL_S = 1.0


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    config: AgentConfig
    coordinator: Coordinator
    trainer: Trainer
    outbox: Outbox
    cache: ModelCache
    train: TrainFromHead
    answer: AnswerErasure
    flush: FlushOutbox
    file_subjects: FileSubjects
    index: Callable[[Holdings], None]  # takes in which record is whose
    metrics: AgentMetrics
    clock: Clock
    backoff: Backoff
    privacy: PrivacyAccount | None = None
    watch_log: Callable[[], None] = lambda: None
    notifier: Notifier = field(default_factory=lambda: Notifier(SystemClock(), {}))


class Agent:
    """One site's agent. `run` blocks until `stop`; `stop` may be called from any thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stopping = threading.Event()
        self._plan: Plan | None = None  # None until enrolled
        self._epoch = -1
        self._superseded = ""  # task to report as abandoned with the next poll
        self._trained_at: float | None = None
        self._send_again_at = math.inf
        self._deaths_in_a_row = 0

    def stop(self) -> None:
        """Ends `run` soon: what runs is abandoned, what is durable stays for the next start."""
        self._stopping.set()
        self._parts.trainer.abandon()

    def run(self) -> None:
        """Works until stopped.

        Raises BadConfig, BadData, UnknownPlugin, WrongPlan, MalformedName: a human decides.
        """
        while not self._stopping.is_set():
            try:
                wait_s = self._turn()
            except FOR_A_HUMAN:
                raise
            except LetheonError as trouble:
                if self._stopping.is_set():
                    break
                wait_s = self._after(trouble)
            except OSError as trouble:
                wait_s = self._after_disk(trouble.strerror or type(trouble).__name__)
            else:
                self._parts.backoff.reset()
            self._parts.clock.wait(self._stopping, wait_s)

    def _after(self, trouble: LetheonError) -> float:
        """Seconds to wait after a turn that failed."""
        backoff = self._parts.backoff
        match trouble:
            case UnknownSite():
                log.warning("site_unknown", extra={"site": self._parts.config.site})
                self._plan = None
                return backoff.next_s()
            case Busy():
                return self._bounded(come_back_after(trouble.retry_after_s, random.random()))
            case StartOver():
                return self._bounded(0.0)
            case TrainingProcessDied():
                log.warning("turn_cut_short", extra={"reason": trouble.reason})
            case CoordinatorUnreachable():
                cause = cause_of(trouble.message)
                self._parts.metrics.connection_failures.labels(cause.value).inc()
                fields = {"cause": cause.value, "why": explain(cause), "text": trouble.message}
                log.info("coordinator_unreachable", extra=fields)
                self._parts.notifier.status(f"not connected: {explain(cause)}")
            case SiteDiskFailed():
                return self._after_disk(trouble.message)
            case GpuOutOfMemory():
                self._parts.metrics.gpu_out_of_memory.inc()
                log.error("gpu_out_of_memory", extra={"text": trouble.message})
            case _:
                log.error("turn_failed", extra={"reason": trouble.reason, "text": trouble.message})
        return backoff.next_s()

    def _after_disk(self, text: str) -> float:
        """A full or failing disk is mended while we wait; what is durable stays so."""
        state_dir = self._parts.config.state_dir
        self._parts.metrics.storage_failures.inc()
        fields = {"text": text, "state_dir": str(state_dir), "free_bytes": _free_bytes(state_dir)}
        log.error("storage_failed", extra=fields)
        self._parts.notifier.status(f"{state_dir} takes nothing more: {text}; trying again")
        return self._parts.backoff.next_s()

    def _turn(self) -> float:
        plan = self._plan if self._plan is not None else self._enrol()
        self._parts.watch_log()
        self._parts.file_subjects()
        wait_s = self._parts.flush(plan.parameters, self._epoch)
        self._send_again_at = self._parts.clock.monotonic() + (
            math.inf if wait_s is None else wait_s
        )
        # The report travels with the poll; if the poll fails it is made again.
        assignment = self._parts.coordinator.next_task(self._superseded)
        self._superseded = ""
        self._heard_of(assignment.epoch)
        if isinstance(assignment.work, Wait):
            return self._until_next(assignment.work.seconds)
        kind = _KINDS[type(assignment.work)]
        with tracing.continuing(assignment.traceparent), tracing.span(f"task.{kind}"):
            return self._work(assignment.work, plan)

    def _enrol(self) -> Plan:
        parts = self._parts
        holdings = parts.trainer.open()
        parts.index(holdings)
        plan = parts.coordinator.plan()
        standing_of_privacy = parts.trainer.adopt(plan)
        if parts.privacy is not None:
            parts.privacy.learn(standing_of_privacy)
        standing = parts.coordinator.register(
            display_name=parts.config.display_name or parts.config.site,
            holdings=holdings,
            plan_digest=plan.digest,
        )
        for part in ("train", "control", "validation"):
            count = getattr(holdings, f"{part}_records")
            parts.metrics.records.labels(part).set(count)
        parts.metrics.skipped.clear()
        for reason, count in holdings.skipped.items():
            parts.metrics.skipped.labels(reason).set(count)
        fields = {"state": standing.state.value, "train_records": holdings.train_records}
        log.info("enrolled", extra={**fields, "plan_digest": plan.digest})
        if standing.state is not SiteState.ACTIVE:
            log.warning("site_fenced", extra={"erasure": standing.erasure})
        parts.notifier.status(f"enrolled, {holdings.train_records} records to train on")
        self._plan = plan
        return plan

    def _heard_of(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        if epoch < self._epoch:
            # It was restored from a backup: version numbers come back with other weights.
            log.warning("history_lost", extra={"epoch": epoch, "known": self._epoch})
            self._parts.cache.forget_all()
        log.info("epoch_began", extra={"epoch": epoch})
        self._epoch = epoch
        self._parts.metrics.epoch.set(epoch)
        # Models from before an erasure may carry its subject.
        self._parts.cache.forget_before(epoch)

    def _work(self, task: Task, plan: Plan) -> float:
        if not isinstance(task, TrainTask):
            outcome = self._parts.answer(task, plan)
            # The versions of an audit are from before an erasure: not kept beyond the answer.
            self._parts.cache.forget_before(self._epoch)
            self._count(task, outcome)
            return self._parts.backoff.next_s() if outcome is TaskOutcome.CRASHED else 0.0
        if task.plan_digest != plan.digest:
            log.warning("plan_changed", extra={"plan_digest": task.plan_digest})
            self._plan = None
            return 0.0
        if self._parts.privacy is not None and self._parts.privacy.is_spent:
            return self._trains_no_more()
        wait_s = self._not_yet(plan)
        return wait_s if wait_s > 0.0 else self._train(task)

    def _not_yet(self, plan: Plan) -> float:
        """Seconds until the next poll if training may not begin now, else 0.

        A train task costs nothing when it is dropped, and other tasks run in the slack.
        """
        training, outbox = self._parts.config.training, self._parts.config.outbox
        deltas = [upload for upload in self._parts.outbox.waiting() if upload.is_delta]
        encoding = self._parts.config.encoding or plan.encoding
        _, most = size_limits(plan.parameters, encoding)
        due_bytes = sum(one.payload.size_bytes for one in deltas) + most
        # The only delta is always made: a bound below the size of one would end all training.
        full = bool(deltas) and due_bytes > outbox.max_bytes
        if full or len(deltas) >= outbox.max_deltas:
            return _CANNOT_TRAIN_POLL_S
        if self._trained_at is None:
            return 0.0
        due = self._trained_at + training.min_interval_seconds
        return min(max(0.0, due - self._parts.clock.monotonic()), 1.0)

    def _train(self, task: TrainTask) -> float:
        self._trained_at = self._parts.clock.monotonic()
        try:
            outcome = self._parts.train(task)
        except TrainingProcessDied:
            return self._after_death(task)
        except PrivacyBudgetSpent:
            self._plan = None  # the budget is counted anew with what there is to train on now
            return self._trains_no_more()
        except (Unavailable, Busy, UnknownSite, OSError):
            self._trained_at = None  # nothing came of it yet, so the pace does not count it
            raise
        except LetheonError:
            self._count(task, TaskOutcome.FAILED)
            raise
        self._deaths_in_a_row = 0
        if outcome is TaskOutcome.SUPERSEDED:
            log.info("task_superseded", extra={"task": task.name, "epoch": task.epoch})
            self._superseded = task.name
            self._trained_at = None  # the pace counts trainings that came to something
        self._count(task, outcome)
        return 0.0

    def _trains_no_more(self) -> float:
        """The train task is dropped, which costs nothing; everything else is answered as ever."""
        self._parts.notifier.status("the privacy budget is spent: it trains no more, and answers")
        return _CANNOT_TRAIN_POLL_S

    def _after_death(self, task: TrainTask) -> float:
        """Tries the same work again a few times, then waits.

        A machine short of memory must not spend its days on starting processes.
        """
        self._deaths_in_a_row += 1
        self._trained_at = None
        self._count(task, TaskOutcome.CRASHED)
        if self._deaths_in_a_row < self._parts.config.training.max_attempts:
            return self._train(task)
        log.error("task_given_up", extra={"task": task.name, "attempts": self._deaths_in_a_row})
        self._deaths_in_a_row = 0
        return self._parts.config.poll.maximum_seconds

    def _count(self, task: Task, outcome: TaskOutcome) -> None:
        self._parts.metrics.tasks.labels(_KINDS[type(task)], outcome.value).inc()

    def _until_next(self, proposed_s: float) -> float:
        """The coordinator's delay, cut short if an upload is to be tried again before."""
        due_s = max(0.0, self._send_again_at - self._parts.clock.monotonic())
        return self._bounded(min(proposed_s, due_s))

    def _bounded(self, seconds: float) -> float:
        poll = self._parts.config.poll
        return min(max(seconds, poll.minimum_seconds), poll.maximum_seconds)


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
