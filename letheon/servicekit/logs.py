"""Structured logs: one JSON object a line on stderr, an event name and fields, no prose."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO

import grpc

from letheon.servicekit import tracing
from letheon.servicekit.interception import Method, around_calls, short_name, watch

_BOUND: ContextVar[Mapping[str, object] | None] = ContextVar("letheon_log_fields", default=None)
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_ALARMING = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS})
_LOG = logging.getLogger(__name__)


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Adds fields to every line logged inside, in this thread."""
    before = _BOUND.get()
    _BOUND.set({**(before or {}), **fields})
    try:
        yield
    finally:
        _BOUND.set(before)


class JsonLines(logging.Formatter):
    """`{"at", "level", "service", "event", "logger", fields...}`; a stack goes to `stack`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line; a value that JSON does not know is written as its text."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
            "logger": record.name,
        }
        if (trace := tracing.trace_id()) is not None:
            line["trace_id"] = trace
        line.update(_BOUND.get() or {})
        line.update({k: v for k, v in record.__dict__.items() if k not in _PLAIN})
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(service: str, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Makes the root logger write JSON lines. Call it once, in `__main__`.

    Raises ValueError for a level that logging does not know.
    """
    output = logging.StreamHandler(stream if stream is not None else sys.stderr)
    output.setFormatter(JsonLines(service))
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.handlers[:] = [output]


class CallLog(grpc.ServerInterceptor):
    """One canonical line a call: method, code, duration_ms.

    Calls that end well are logged at debug (agents poll all day), refused ones at info, faults
    at error.
    """

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps the method that gRPC found; an unknown method stays unknown."""
        method = short_name(handler_call_details.method)

        def report(code: grpc.StatusCode, seconds: float) -> None:
            level = logging.INFO
            if code is grpc.StatusCode.OK:
                level = logging.DEBUG
            elif code in _ALARMING:
                level = logging.ERROR
            fields = {
                "method": method,
                "code": code.name,
                "duration_ms": round(seconds * 1000, 1),
            }
            _LOG.log(level, "rpc", extra=fields)

        def around(context: grpc.ServicerContext) -> AbstractContextManager[None]:
            return watch(context, report)

        return around_calls(continuation(handler_call_details), around)
