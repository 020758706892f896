"""Takes entries from the queue and carries each erasure out under its claim.

Every erasure in hand has a thread of its own, because a removal must not wait for the repair of
another one; and further threads that renew its queue entry, and its lease while it works.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from calibrator.domain.case import Claim
from calibrator.domain.progress import Progress, read_progress
from calibrator.drive import Drive, Signals
from calibrator.metrics import CalibratorMetrics
from calibrator.ports import Claims
from calibrator.services.file_request import file_request
from calibrator.services.job import Job
from calibrator.signs_of_life import repeating
from letheon.errors import (
    Busy,
    ClaimHeld,
    ClaimLost,
    ErasureAlreadyRequested,
    ErasureConcluded,
    ErasureNotApproved,
    InternalFault,
    LetheonError,
    Unavailable,
)
from letheon.names import erasure_name
from letheon.servicekit import tracing
from letheon.servicekit.backoff import Backoff
from letheon.servicekit.clock import Clock
from letheon.servicekit.erasure_queue import Entry, ErasureQueue
from letheon.servicekit.faults import reach
from letheon.servicekit.logs import bind

_LOG = logging.getLogger(__name__)
_REPEATABLE = (Unavailable, Busy, InternalFault)
# Outcomes of a delivery that say nothing against the entry.
_HELD, _LOST, _CHECKPOINTED = "held", "lost", "checkpointed"


@dataclass(frozen=True)
class Pace:
    """How long the worker waits for what."""

    block_s: float = 2.0  # for a new entry, at most
    renew_s: float = 5.0  # between two signs of life, at most a third of the lease
    max_jobs: int = 64  # erasures in hand at once
    max_deliveries: int = 20  # of one entry whose job ends in a fault or kills the process


class QueueWatch(Protocol):
    """Who is told whether the queue answers."""

    def __call__(self, *, holds: bool) -> None:
        """After every look at the queue."""
        ...


def _unwatched(*, holds: bool) -> None:
    """Nobody wants to know."""


class Worker:
    """One calibrator."""

    def __init__(
        self,
        *,
        name: str,
        queue: ErasureQueue,
        claims: Claims,
        drive: Drive,
        clock: Clock,
        metrics: CalibratorMetrics,
        backoff: Callable[[], Backoff],
        make_salt: Callable[[], str],
        pace: Pace,
        queue_answers: QueueWatch | None = None,
    ) -> None:
        self._queue_answers = queue_answers or _unwatched
        self._name = name
        self._queue = queue
        self._claims = claims
        self._drive = drive
        self._clock = clock
        self._metrics = metrics
        self._backoff = backoff
        self._make_salt = make_salt
        self._pace = pace
        self._lock = threading.Lock()
        self._in_hand: dict[str, str] = {}  # erasure -> queue entry
        self._filed_at: dict[str, datetime] = {}
        self._threads: set[threading.Thread] = set()
        self._slots = threading.Semaphore(pace.max_jobs)

    def run(self, stop: threading.Event) -> None:
        """Takes entries until `stop`; jobs in hand store their step and end by themselves."""
        backoff = self._backoff()
        while not stop.is_set():
            try:
                self._observe()
                entry = self._next_entry()
            except Unavailable as error:
                self._metrics.retries.inc()
                self._queue_answers(holds=False)
                _LOG.warning(
                    "queue_unreachable", extra={"reason": error.reason, "text": error.message}
                )
                self._clock.wait(stop, backoff.next_s())
                continue
            backoff.reset()
            self._queue_answers(holds=True)
            if entry is not None:
                self._start(entry, stop)

    def _next_entry(self) -> Entry | None:
        """An entry and the slot to work on it; None if either is missing for now."""
        if not self._slots.acquire(timeout=self._pace.block_s):
            return None
        entry = None
        try:
            entry = self._queue.take(self._name, self._pace.block_s)
        finally:
            if entry is None:
                self._slots.release()
        return entry

    def join(self, grace_s: float) -> bool:
        """Waits for the jobs in hand; false if one is still at work after `grace_s` seconds."""
        end = self._clock.monotonic() + grace_s
        with self._lock:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _start(self, entry: Entry, stop: threading.Event) -> None:
        def work() -> None:
            try:
                self._work(entry, stop)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())
                self._slots.release()

        thread = threading.Thread(target=work, name=f"erasure-{entry.entry}", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _work(self, entry: Entry, stop: threading.Event) -> None:
        with self._lock:
            is_in_hand = entry.entry in self._in_hand.values()
        if entry.deliveries > self._pace.max_deliveries and not is_in_hand:
            # Whoever had it before never got as far as to say what was wrong.
            outcome = self._give_up(entry, _ended(entry.deliveries - 1))
        else:
            # From the first moment on: while the coordinator is away the entry is in hand too.
            with repeating(lambda: self._renew_entry(entry), self._pace.renew_s, self._clock):
                outcome = self._outcome(entry, stop)
        if outcome in (_HELD, _LOST, _CHECKPOINTED):
            self._put_back(entry, at_once=outcome == _CHECKPOINTED)
        self._metrics.entries.labels(outcome).inc()

    def _outcome(self, entry: Entry, stop: threading.Event) -> str:
        backoff = self._backoff()
        while not stop.is_set():
            try:
                return self._attend(entry, stop)
            except _REPEATABLE as error:
                self._metrics.retries.inc()
                _LOG.warning("entry_repeated", extra={"reason": error.reason})
                self._clock.wait(stop, backoff.next_s())
            except LetheonError as error:
                return self._give_up(entry, f"{error.message} ({error.reason})")
            except Exception:  # noqa: BLE001
                # A bug must not end the worker: the entry comes back, here or elsewhere.
                _LOG.exception("job_crashed", extra={"entry": entry.entry})
                return self._after_crash(entry)
        return _CHECKPOINTED

    def _attend(self, entry: Entry, stop: threading.Event) -> str:
        """What became of the entry, as a label. Raises what should be repeated or buried."""
        if entry.request is not None:
            try:
                name = file_request(entry.request, self._claims)
            except ErasureAlreadyRequested as error:
                _LOG.info("request_already_filed", extra=error.facts)
            else:
                _LOG.info("request_filed", extra={"erasure": name})
            self._queue.acknowledge(entry)
            return "filed"
        name = erasure_name((entry.erasure or "").removeprefix("erasures/"))
        if not self._take_in_hand(name, entry):
            return _HELD
        try:
            trace = tracing.continuing(entry.traceparent)
            with bind(erasure=name), trace, tracing.span("erasure.carry_out", erasure=name):
                return self._carry_out(name, entry, stop)
        finally:
            with self._lock:
                self._in_hand.pop(name, None)
                self._filed_at.pop(name, None)

    def _take_in_hand(self, name: str, entry: Entry) -> bool:
        """False if this calibrator works on the erasure already: claiming again would fence it."""
        with self._lock:
            if name not in self._in_hand:
                self._in_hand[name] = entry.entry
                return True
            same = self._in_hand[name] == entry.entry
        if not same:
            self._queue.acknowledge(entry)
        return False

    def _carry_out(self, name: str, entry: Entry, stop: threading.Event) -> str:
        try:
            claim = self._claims.claim(name, self._name)
        except ClaimHeld:
            return _HELD  # the entry comes back if its holder falls silent
        except (ErasureConcluded, ErasureNotApproved):
            # Once it is approved, the coordinator announces it anew.
            self._queue.acknowledge(entry)
            return "acknowledged"
        reach("calibrator.claimed")
        signals = Signals(stop, threading.Event())
        with self._lock:
            self._filed_at[name] = claim.erasure.requested_at
        pause_s = min(self._pace.renew_s, claim.lease_s / 3)
        try:
            with repeating(lambda: self._renew_claim(claim, signals.lost), pause_s, self._clock):
                ended = self._drive.run(self._job(claim), signals)
        except ErasureConcluded:
            self._queue.acknowledge(entry)
            return "acknowledged"
        except ClaimLost:
            self._metrics.claims_lost.inc()
            _LOG.warning("claim_lost")
            return _LOST
        if ended is None:
            self._release(claim)
            return _CHECKPOINTED
        reach("calibrator.concluded")
        self._queue.acknowledge(entry)
        return "acknowledged"

    def _job(self, claim: Claim) -> Job:
        progress = read_progress(claim.progress_json)
        if progress is None:
            progress = Progress(stage_since=self._clock.now(), salt=self._make_salt())
        return Job(claim.ticket, claim.erasure, progress)

    def _renew_claim(self, claim: Claim, lost: threading.Event) -> bool:
        try:
            self._claims.renew(claim.ticket, None, None)
        except ClaimLost:
            lost.set()
            return False
        except LetheonError as error:
            _LOG.warning("renewal_failed", extra={"reason": error.reason})
        return True

    def _renew_entry(self, entry: Entry) -> bool:
        try:
            self._queue.renew(entry)
        except LetheonError as error:
            # The queue only wakes up; who may work is decided by the claim.
            _LOG.warning("entry_renewal_failed", extra={"reason": error.reason})
        return True

    def _release(self, claim: Claim) -> None:
        """Another calibrator need not wait for the end of the lease. A courtesy: it may fail."""
        try:
            self._claims.release(claim.ticket)
        except LetheonError as error:
            _LOG.warning("release_failed", extra={"reason": error.reason})

    def _put_back(self, entry: Entry, *, at_once: bool) -> None:
        try:
            self._queue.put_back(entry, at_once=at_once)
        except LetheonError as error:
            _LOG.warning("put_back_failed", extra={"reason": error.reason})

    def _give_up(self, entry: Entry, reason: str) -> str:
        _LOG.error("entry_buried", extra={"entry": entry.entry, "why": reason})
        try:
            self._queue.bury(entry, reason)
        except Unavailable:
            return _HELD  # it comes back and is buried then
        return "buried"

    def _after_crash(self, entry: Entry) -> str:
        if entry.deliveries >= self._pace.max_deliveries:
            return self._give_up(entry, _ended(entry.deliveries))
        return "crashed"

    def _observe(self) -> None:
        with self._lock:
            self._metrics.jobs.set(len(self._in_hand))
            oldest = min(self._filed_at.values(), default=None)
        age = (self._clock.now() - oldest).total_seconds() if oldest else 0.0
        self._metrics.oldest_job_age_seconds.set(max(0.0, age))


def _ended(deliveries: int) -> str:
    return f"its job crashed, or its calibrator died of it, at each of {deliveries} deliveries"
