"""Sends what waits in the outbox."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from client_agent.domain.answers import EraseAnswer, TaskFailure
from client_agent.domain.delay import come_back_after
from client_agent.domain.hours import Hours
from client_agent.domain.upload import (
    DeltaFacts,
    DropReason,
    PayloadDamaged,
    Receipt,
    ReceiptOutcome,
    Upload,
    UploadState,
)
from client_agent.metrics import AgentMetrics
from client_agent.ports import Coordinator, Outbox
from letheon.errors import (
    AlreadyExists,
    BadInput,
    Busy,
    ChecksumMismatch,
    DigestMismatch,
    LetheonError,
    NotFound,
    OffsetMismatch,
    Refused,
    StaleEpoch,
    StartOver,
    UnknownSite,
    UploadBusy,
)
from letheon.federation.parameters import Layout
from letheon.servicekit import tracing
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

log = logging.getLogger(__name__)

_SOON_S = 1.0
# How often a payload is sent once more because the coordinator's copy was not what was sent. The
# file here was seen to be intact each time, so it is the other side's disk that lies. Kept in
# memory: a restart may try anew, which costs bytes and loses nothing.
_MAX_RESENDS = 3
# The payload or the whole of what it was made for is refused for good. UnknownSite is not among
# them: the site registers again and the payload stays.
_FINAL = (BadInput, NotFound, AlreadyExists, Refused, StartOver)
_RESUME = (OffsetMismatch, ChecksumMismatch, UploadBusy)


class FlushOutbox:
    """Tries every upload that is due. One that has to wait does not hold the others up."""

    def __init__(
        self,
        outbox: Outbox,
        coordinator: Coordinator,
        metrics: AgentMetrics,
        clock: Clock,
        max_age: timedelta,
        exclusions: Callable[[], int],
        hours: Hours = Hours(),  # noqa: B008 - a constant
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Deltas that were not accepted within `max_age` are dropped, and none is sent outside
        the hours; `draw` is in [0, 1).

        So are those trained under an older generation of `exclusions`: they may hold the records.
        """
        self._outbox = outbox
        self._coordinator = coordinator
        self._metrics = metrics
        self._clock = clock
        self._max_age = max_age
        self._hours = hours
        self._draw = draw
        self._exclusions = exclusions
        self._due: dict[str, float] = {}  # update id -> monotonic seconds
        self._resent: Counter[str] = Counter()

    def __call__(self, layout: Layout, epoch: int) -> float | None:
        """Seconds until the next upload is due, or None if nothing waits any more.

        `epoch` is the newest one heard of. Raises Unavailable, UnknownSite and whatever is no
        answer to an upload; nothing is lost.
        """
        closed_s = self._hours.seconds_until_open(self._clock.now())
        held = set()
        for upload in self._outbox.waiting():
            if closed_s > 0.0 and self._may_wait(upload, epoch):
                held.add(upload.update_id)
            elif self._clock.monotonic() >= self._due.get(upload.update_id, 0.0):
                with tracing.resumed(upload.update_id), tracing.span("update.upload"):
                    self._attend(upload, layout, epoch)
        left = [upload.update_id for upload in self._outbox.waiting()]
        self._metrics.outbox_depth.set(len(left))
        self._metrics.uploads_held.set(len(held))
        now = self._clock.monotonic()
        due = (closed_s if one in held else self._due.get(one, now) - now for one in left)
        return min((max(0.0, wait_s) for wait_s in due), default=None)

    def _may_wait(self, upload: Upload, epoch: int) -> bool:
        """Whether it may wait for the hours in which the site uploads: not what an erasure is
        owed, nor what is of no use any more, of which nothing is sent.
        """
        return upload.is_delta and self._useless(upload, epoch) is None

    def _attend(self, upload: Upload, layout: Layout, epoch: int) -> None:
        try:
            self._send(upload, layout, epoch)
        except UnknownSite:
            raise
        except Busy as busy:
            self._put_off(upload, max(busy.retry_after_s, _SOON_S))
        except _RESUME as interrupted:
            log.info("upload_interrupted", extra=_fields(upload, interrupted.reason))
            self._put_off(upload, _SOON_S)
        except PayloadDamaged as damaged:
            self._damaged(upload, damaged)
        except DigestMismatch as mismatch:
            self._send_once_more(upload, mismatch)
        except _FINAL as error:
            self._refused(upload, error)
        else:
            self._forget(upload)

    def _send(self, upload: Upload, layout: Layout, epoch: int) -> None:
        if upload.state is UploadState.READY:
            reason = self._useless(upload, epoch)
            if reason is None:
                self._accept(upload, self._push(upload, layout))
            elif (receipt := self._coordinator.receipt_of(upload)) is not None:
                self._accept(upload, receipt)
            else:
                self._drop(upload, reason)
        if isinstance(upload.purpose, EraseAnswer):
            self._coordinator.submit(upload.task, upload.purpose)
            self._conclude(upload)

    def _push(self, upload: Upload, layout: Layout) -> Receipt:
        began = self._clock.monotonic()
        receipt = self._coordinator.push(upload, layout)
        seconds = self._clock.monotonic() - began
        self._metrics.upload_seconds.observe(seconds, tracing.exemplar())
        return receipt

    def _useless(self, upload: Upload, epoch: int) -> DropReason | None:
        """Why a delta need not be sent. An erasure's answer is always sent."""
        if not isinstance(upload.purpose, DeltaFacts):
            return None
        if upload.purpose.exclusions < self._exclusions():
            return DropReason.RECORDS_EXCLUDED
        if upload.purpose.epoch < epoch:
            return DropReason.STALE_EPOCH
        made_at = upload.made_at
        if made_at is not None and self._clock.now() - made_at > self._max_age:
            return DropReason.TOO_OLD
        return None

    def _accept(self, upload: Upload, receipt: Receipt) -> None:
        reach("agent.acknowledged")
        self._outbox.accept(upload, receipt)
        self._metrics.upload_bytes.inc(upload.payload.size_bytes)
        self._metrics.uploads.labels(receipt.outcome.value).inc()
        if receipt.outcome is not ReceiptOutcome.STORED:
            fields = {
                "update_id": upload.update_id,
                "outcome": receipt.outcome.value,
                "version": receipt.version,
                "staleness": receipt.staleness,
                "entry": receipt.entry,
                "size_bytes": upload.payload.size_bytes,
            }
            log.info("delta_accepted", extra=fields)

    def _conclude(self, upload: Upload) -> None:
        self._outbox.conclude(upload)
        self._outbox.end_attempts(upload.task)
        log.info("erase_answered", extra={"task": upload.task})

    def _send_once_more(self, upload: Upload, mismatch: DigestMismatch) -> None:
        """The coordinator has discarded what it held, so the next try begins at the first byte."""
        self._resent[upload.update_id] += 1
        if self._resent[upload.update_id] > _MAX_RESENDS:
            self._refused(upload, mismatch)
            return
        log.warning("upload_arrived_damaged", extra=_fields(upload, mismatch.reason))
        self._put_off(upload, _SOON_S)

    def _damaged(self, upload: Upload, damaged: PayloadDamaged) -> None:
        """An erasure's answer is closed too: its task is still open, handed out and done again."""
        self._outbox.close(upload, DropReason.PAYLOAD_CORRUPT)
        fields = _fields(upload, DropReason.PAYLOAD_CORRUPT)
        log.error("upload_dropped", extra={**fields, "text": damaged.message})
        self._metrics.uploads.labels("dropped").inc()
        self._forget(upload)

    def _drop(self, upload: Upload, reason: DropReason) -> None:
        self._outbox.close(upload, reason)
        log.warning("upload_dropped", extra=_fields(upload, reason))
        superseded = reason in (DropReason.STALE_EPOCH, DropReason.RECORDS_EXCLUDED)
        outcome = "superseded" if superseded else "dropped"
        self._metrics.uploads.labels(outcome).inc()

    def _refused(self, upload: Upload, error: LetheonError) -> None:
        """A delta is dropped. An erasure is owed an answer, so it gets the refusal as one."""
        if not upload.is_delta and not isinstance(error, NotFound):
            reason = f"the coordinator refused the payload of this answer: {error.reason}"
            self._report_failure(upload, reason)
        self._outbox.close(upload, error.reason)
        expected = isinstance(error, StaleEpoch | NotFound | Refused)
        level = logging.WARNING if expected else logging.ERROR
        log.log(level, "upload_dropped", extra={**_fields(upload, error.reason), **_named(error)})
        outcome = "superseded" if isinstance(error, StaleEpoch) else "dropped"
        self._metrics.uploads.labels(outcome).inc()
        self._forget(upload)

    def _report_failure(self, upload: Upload, reason: str) -> None:
        try:
            self._coordinator.submit(upload.task, TaskFailure(reason))
        except NotFound:
            log.info("erase_withdrawn", extra={"task": upload.task})
        self._outbox.end_attempts(upload.task)

    def _put_off(self, upload: Upload, asked_s: float) -> None:
        wait_s = come_back_after(asked_s, self._draw())
        self._due[upload.update_id] = self._clock.monotonic() + wait_s

    def _forget(self, upload: Upload) -> None:
        self._due.pop(upload.update_id, None)
        self._resent.pop(upload.update_id, None)


def _fields(upload: Upload, reason: str) -> dict[str, object]:
    return {"update_id": upload.update_id, "task": upload.task, "reason": reason}


def _named(error: LetheonError) -> dict[str, object]:
    return {
        name: error.facts[name] for name in ("rule", "tensor", "erasure") if name in error.facts
    }
