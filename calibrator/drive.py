"""Drives one erasure from where it stands to its end, one stored step at a time."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from calibrator.domain.progress import Progress, Stage
from calibrator.metrics import CalibratorMetrics
from calibrator.ports import Certified, Failed
from calibrator.services.job import Advance, Ended, Job, Moved, Waiting, Workshop
from calibrator.services.record_attempt import record_attempt
from calibrator.services.remove_contribution import remove_contribution
from calibrator.services.run_gate import run_gate
from calibrator.services.run_method import run_method
from letheon.errors import (
    BadInput,
    Busy,
    ClaimLost,
    Corrupt,
    ErasureConcluded,
    InternalFault,
    LetheonError,
    NotFound,
    PatchVoid,
    Refused,
    Unavailable,
    UploadBusy,
)
from letheon.names import erasure_id
from letheon.servicekit import tracing
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.faults import reach

_LOG = logging.getLogger(__name__)
_USE_CASES: dict[Stage, Callable[[Job, Workshop], Advance]] = {
    Stage.REMOVE: remove_contribution,
    Stage.METHOD: run_method,
    Stage.GATE: run_gate,
    Stage.RECORD: record_attempt,
}
_REPEATABLE = (Unavailable, Busy, UploadBusy, InternalFault)
_FINAL = (Refused, BadInput, NotFound, Corrupt)


@dataclass(frozen=True)
class Signals:
    """Why a drive may end before the erasure does."""

    stop: threading.Event  # the process is to end
    lost: threading.Event  # another calibrator holds the claim


class Drive:
    """One erasure. Everything between two steps is stored at the coordinator."""

    def __init__(
        self,
        workshop: Workshop,
        metrics: CalibratorMetrics,
        backoff: Callable[[], Backoff],
        poll_s: float,
    ) -> None:
        self._workshop = workshop
        self._metrics = metrics
        self._backoff = backoff
        self._poll_s = poll_s

    def run(self, job: Job, signals: Signals) -> Certified | Failed | None:
        """Returns how it ended; None if it was checkpointed because the process is to end.

        Raises ClaimLost, and ErasureConcluded if somebody else ended the erasure.
        """
        directory = self._workshop.directory / erasure_id(job.erasure.name)
        directory.mkdir(parents=True, exist_ok=True)
        workshop = replace(self._workshop, directory=directory)
        backoff = self._backoff()
        while not signals.stop.is_set():
            if signals.lost.is_set():
                raise ClaimLost("the claim was lost while the job was in hand")
            try:
                outcome, job = self._step(job, workshop)
            except _REPEATABLE as error:
                self._pause(error, backoff, signals.stop)
                continue
            backoff.reset()
            if isinstance(outcome, Ended):
                shutil.rmtree(directory, ignore_errors=True)
                return outcome.end
            if isinstance(outcome, Waiting):
                workshop.clock.wait(signals.stop, self._poll_s)
        return None

    def _step(self, job: Job, workshop: Workshop) -> tuple[Advance, Job]:
        """One step, stored or concluded. Safe to repeat from the job it was given."""
        outcome = self._advance(job, workshop)
        stage = job.progress.stage.value
        if not isinstance(outcome, Waiting):
            reach(f"calibrator.step_done.{stage}")
        match outcome:
            case Moved(progress, state):
                text = progress.model_dump_json()
                workshop.coordinator.renew(job.ticket, text, state)
                reach(f"calibrator.stored.{stage}")
                self._note(job.progress, progress, job.erasure.name)
                return outcome, replace(job, progress=progress)
            case Ended(end):
                workshop.coordinator.conclude(job.ticket, end)
                self._note_end(job, end)
        return outcome, job

    def _advance(self, job: Job, workshop: Workshop) -> Advance:
        try:
            return _USE_CASES[job.progress.stage](job, workshop)
        except PatchVoid as error:
            self._metrics.restarts.inc()
            _LOG.warning("method_restarted", extra={"erasure": job.erasure.name, **error.facts})
            return Moved(job.progress.restarted(workshop.clock.now()))
        except ErasureConcluded:
            raise
        except _FINAL as error:
            return Ended(Failed(f"{error.message} ({error.reason})"))

    def _pause(self, error: LetheonError, backoff: Backoff, stop: threading.Event) -> None:
        asked_s = error.retry_after_s if isinstance(error, Busy) else 0.0
        self._metrics.retries.inc()
        delay_s = backoff.next_s(asked_s)
        _LOG.warning("step_repeated", extra={"reason": error.reason, "delay_s": delay_s})
        self._workshop.clock.wait(stop, delay_s)

    def _note(self, before: Progress, after: Progress, erasure: str) -> None:
        if after.stage is before.stage:
            return
        seconds = (after.stage_since - before.stage_since).total_seconds()
        self._observe(before.stage, seconds)
        judged = after.gate.judged
        if after.stage is Stage.RECORD and judged is not None:
            self._metrics.gate_verdicts.labels(judged.judgement.verdict.value).inc()
        _LOG.info(
            "stage_entered",
            extra={"erasure": erasure, "stage": after.stage.value, "after_s": seconds},
        )

    def _observe(self, stage: Stage, seconds: float) -> None:
        tracing.record(f"erasure.stage.{stage.value}", seconds)
        histogram = self._metrics.stage_seconds.labels(stage.value)
        histogram.observe(max(0.0, seconds), tracing.exemplar())

    def _note_end(self, job: Job, end: Certified | Failed) -> None:
        since = self._workshop.clock.now() - job.progress.stage_since
        self._observe(job.progress.stage, since.total_seconds())
        if isinstance(end, Failed):
            _LOG.error("erasure_failed", extra={"erasure": job.erasure.name, "failure": end.reason})
        else:
            _LOG.info("erasure_certified", extra={"erasure": job.erasure.name})
