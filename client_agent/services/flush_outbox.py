"""Sends what waits in the outbox."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from client_agent.domain.answers import EraseAnswer, TaskFailure
from client_agent.domain.upload import Receipt, ReceiptOutcome, Upload, UploadState
from client_agent.metrics import AgentMetrics
from client_agent.ports import Coordinator, Outbox
from letheon.errors import (
    AlreadyExists,
    BadInput,
    Busy,
    ChecksumMismatch,
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

log = logging.getLogger(__name__)

_SOON_S = 1.0
# The payload or the whole of what it was made for is refused for good. UnknownSite is not among
# them: the site registers again and the payload stays.
_FINAL = (BadInput, NotFound, AlreadyExists, Refused, StartOver)
_RESUME = (OffsetMismatch, ChecksumMismatch, UploadBusy)


@dataclass(frozen=True)
class FlushOutbox:
    """Tries every upload once. One that has to wait does not hold the others up."""

    outbox: Outbox
    coordinator: Coordinator
    metrics: AgentMetrics

    def __call__(self, layout: Layout) -> float | None:
        """Seconds to wait before the next try, or None if nothing waits any more.

        Raises Unavailable, UnknownSite and whatever is no answer to an upload; nothing is lost.
        """
        waits = [wait for upload in self.outbox.waiting() if (wait := self._send(upload, layout))]
        self.metrics.outbox_depth.set(len(self.outbox.waiting()))
        return max(waits, default=None)

    def _send(self, upload: Upload, layout: Layout) -> float | None:
        try:
            if upload.state is UploadState.READY:
                self._accept(upload, self.coordinator.push(upload, layout))
            if isinstance(upload.purpose, EraseAnswer):
                self.coordinator.submit(upload.task, upload.purpose)
                self._conclude(upload)
        except UnknownSite:
            raise
        except Busy as busy:
            return max(busy.retry_after_s, _SOON_S)
        except _RESUME as interrupted:
            log.info("upload_interrupted", extra=_fields(upload, interrupted))
            return _SOON_S
        except _FINAL as error:
            self._refused(upload, error)
        return None

    def _accept(self, upload: Upload, receipt: Receipt) -> None:
        self.outbox.accept(upload, receipt)
        self.metrics.upload_bytes.inc(upload.payload.size_bytes)
        self.metrics.uploads.labels(receipt.outcome.value).inc()
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
        self.outbox.conclude(upload)
        self.outbox.end_attempts(upload.task)
        log.info("erase_answered", extra={"task": upload.task})

    def _refused(self, upload: Upload, error: LetheonError) -> None:
        """A delta is dropped. An erasure is owed an answer, so it gets the refusal as one."""
        if not upload.is_delta and not isinstance(error, NotFound):
            reason = f"the coordinator refused the payload of this answer: {error.reason}"
            self._report_failure(upload, reason)
        self.outbox.close(upload, error.reason)
        expected = isinstance(error, StaleEpoch | NotFound | Refused)
        level = logging.WARNING if expected else logging.ERROR
        log.log(level, "upload_dropped", extra=_fields(upload, error))
        outcome = "superseded" if isinstance(error, StaleEpoch) else "dropped"
        self.metrics.uploads.labels(outcome).inc()

    def _report_failure(self, upload: Upload, reason: str) -> None:
        try:
            self.coordinator.submit(upload.task, TaskFailure(reason))
        except NotFound:
            log.info("erase_withdrawn", extra={"task": upload.task})
        self.outbox.end_attempts(upload.task)


def _fields(upload: Upload, error: LetheonError) -> dict[str, object]:
    facts: dict[str, object] = {
        name: error.facts[name] for name in ("rule", "tensor", "erasure") if name in error.facts
    }
    return {
        "update_id": upload.update_id,
        "task": upload.task,
        "reason": error.reason,
        **facts,
    }
