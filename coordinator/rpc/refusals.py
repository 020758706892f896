"""Puts refused calls into the audit log: who was turned away, from what, and by which rule."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import grpc

from coordinator.ports import Store
from coordinator.services import audit
from letheon import errors
from letheon.errors import LetheonError
from letheon.proof.audit_chain import REFUSED
from letheon.servicekit.caller import current_caller
from letheon.servicekit.clock import Clock
from letheon.servicekit.interception import Method, around_calls, short_name

_log = logging.getLogger(__name__)
# Whatever a caller may not do, and what shows that somebody tampers. What is merely malformed, too
# early or too late says nothing of anybody and would drown the rest.
MATTER: tuple[type[LetheonError], ...] = (
    errors.NotAuthenticated,
    errors.NotPermitted,
    errors.BadSignature,
    errors.CertificateInvalid,
    errors.SiteKeyChanged,
    errors.SiteFenced,
    errors.ExportSuspended,
    errors.MethodRefused,
    errors.LevelRefused,
    errors.ErasureAlreadyRequested,
    errors.ErasureNotCancellable,
    errors.RequestAltered,
    errors.UpdateAltered,
)
# One caller that repeats itself must not fill the disk: one row a minute for each kind of refusal.
_QUIET = timedelta(minutes=1)
_MOST_KINDS = 10_000


class AuditRefusals(grpc.ServerInterceptor):
    """Writes one row for a refused call that matters; the error goes on its way."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str, str], tuple[datetime, int]] = {}  # when, not written since

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps each method."""
        method = short_name(handler_call_details.method)

        @contextmanager
        def watched(_context: grpc.ServicerContext) -> Iterator[None]:
            try:
                yield
            except LetheonError as error:
                self.note(method, error)
                raise

        return around_calls(continuation(handler_call_details), watched)

    def note(self, method: str, error: LetheonError) -> None:
        """A row of the present caller, unless the refusal does not matter."""
        if not isinstance(error, MATTER):
            return
        now = self._clock.now()
        repeated = self._repeated(method, error, now)
        if repeated is None:
            return
        named = next((error.facts[k] for k in ("erasure", "site") if k in error.facts), "")
        details: dict[str, object] = {"reason": error.reason}
        if "rule" in error.facts:
            details["rule"] = error.facts["rule"]
        if repeated:
            details["not_written_before"] = repeated
        try:
            with self._store.note() as uow:
                audit.record(
                    uow,
                    now,
                    f"call.{method}",
                    named,
                    outcome=REFUSED,
                    details=details,
                )
                uow.commit()
        except LetheonError as trouble:
            # The refusal stands; that it could not be written is for the log of the process.
            _log.error("refusal_not_audited", extra={"method": method, "why": trouble.message})

    def _repeated(self, method: str, error: LetheonError, now: datetime) -> int | None:
        """How many like it were not written since the last row; None if this one is not due."""
        key = (str(current_caller()), method, error.reason)
        with self._lock:
            last, count = self._last.get(key, (None, 0))
            if last is not None and now - last < _QUIET:
                self._last[key] = (last, count + 1)
                return None
            if len(self._last) >= _MOST_KINDS:
                self._last.clear()
            self._last[key] = (now, 0)
        return count
