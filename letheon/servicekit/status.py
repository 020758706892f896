"""Errors of the federation to gRPC status and back.

On the wire an error is a `google.rpc.Status` with `ErrorInfo{reason, domain="letheon",
metadata=facts}` and, for Busy, `RetryInfo`. A servicer raises, the other side catches the same
class with the same facts; neither sees gRPC.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from letheon import errors
from letheon.errors import LetheonError
from letheon.servicekit.error_table import class_of_code, class_of_reason, code_of
from letheon.servicekit.interception import Message, Method, around_calls, code_set, short_name

DOMAIN = "letheon"
_LOG = logging.getLogger(__name__)
# Status travels in a trailing header whose limit is 8 KiB by default; its text is sent twice.
_MESSAGE_BYTES = 1000
_FACT_BYTES = 300
_FACTS = 12
_LONGEST_RETRY_S = 3600.0
_NO_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)


def to_status(error: LetheonError) -> status_pb2.Status:
    """The rich status of an error; long texts are cut so that the header stays small."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for name, value in list(error.facts.items())[:_FACTS]:
        info.metadata[name] = _clip(value, _FACT_BYTES)
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(info)
    if isinstance(error, errors.Busy):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details[1].Pack(retry)
    else:
        details.pop()
    return status_pb2.Status(
        code=code_of(type(error)).value[0],
        message=_clip(error.message, _MESSAGE_BYTES),
        details=details,
    )


def abort(context: grpc.ServicerContext, error: LetheonError) -> NoReturn:
    """Ends a served call with the status of the error."""
    context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise error  # not reached: abort_with_status always raises


class ErrorInterceptor(grpc.ServerInterceptor):
    """Turns what a servicer raises into a status, for all four kinds of call.

    Anything but a LetheonError is a bug: the caller gets a fixed sentence and a correlation id,
    the log has the id and the stack.
    """

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps the method that gRPC found; an unknown method stays unknown."""
        method = short_name(handler_call_details.method)

        @contextmanager
        def translated(context: grpc.ServicerContext) -> Iterator[None]:
            try:
                yield
            except LetheonError as error:
                abort(context, error)
            except Exception:
                # Aborted on purpose by whoever set a code, or the caller has gone away.
                if code_set(context) is not None or not context.is_active():
                    raise
                correlation = uuid.uuid4().hex
                _LOG.exception("rpc_fault", extra={"method": method, "correlation_id": correlation})
                fault = errors.InternalFault(
                    "internal fault; the log of the service has the details under the "
                    f"correlation id {correlation}",
                    correlation_id=correlation,
                )
                abort(context, fault)

        return around_calls(continuation(handler_call_details), translated)


def rebuild(rpc_error: grpc.RpcError) -> LetheonError:
    """The error that the other side raised.

    Without details: no answer (UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED) is
    CoordinatorUnreachable, any other code the general class of that code.
    """
    call: object = rpc_error  # a failed call is both, which the type stubs deny
    if not isinstance(call, grpc.Call):
        return errors.InternalFault(f"the call failed without a status: {rpc_error!r}")
    code = call.code()
    text = call.details() or code.name
    rich = _rich(call)
    if rich is not None:
        return rich
    if code in _NO_ANSWER:
        return errors.CoordinatorUnreachable(f"no answer from the other side: {text}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return errors.MalformedRequest(f"the message is too large: {text}")
    return _built(class_of_code(code), text, {"code": code.name}, None)


def _rich(call: grpc.Call) -> LetheonError | None:
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # details that contradict the code: not made by us
        return None
    if status is None:
        return None
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    ours, retry_after_s = False, None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
            ours = info.domain == DOMAIN
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    if not ours:
        return None
    # A newer release may name a reason that this one does not have.
    found = class_of_reason(info.reason) or class_of_code(call.code())
    return _built(found, status.message, dict(info.metadata), retry_after_s)


def _built(
    error: type[LetheonError], message: str, facts: dict[str, str], retry_after_s: float | None
) -> LetheonError:
    facts = {name: value for name, value in facts.items() if name not in ("self", "message")}
    if issubclass(error, errors.Busy):
        delay = 1.0 if retry_after_s is None or not math.isfinite(retry_after_s) else retry_after_s
        facts["retry_after_s"] = str(min(max(delay, 0.0), _LONGEST_RETRY_S))
    # Constructors differ between classes; facts are already what __init__ would make of them.
    built = error.__new__(error)
    LetheonError.__init__(built, message, **facts)
    return built


class _RebuildingCall:
    """A call or a response stream whose failures are errors of the federation."""

    def __init__(self, call: Message) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Message:
        return getattr(self._call, name)

    def result(self, timeout: float | None = None) -> Message:
        """The response of a unary call."""
        try:
            return self._call.result(timeout)
        except grpc.RpcError as error:
            raise rebuild(error) from error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise, or None."""
        error: BaseException | None = self._call.exception(timeout)
        return rebuild(error) if isinstance(error, grpc.RpcError) else error

    def __iter__(self) -> _RebuildingCall:
        return self

    def __next__(self) -> Message:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise rebuild(error) from error


class RebuildErrors(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Makes stubs raise LetheonError instead of grpc.RpcError, for all four kinds of call."""

    def _intercept(
        self,
        continuation: Callable[..., Message],
        details: grpc.ClientCallDetails,
        request: Message,
    ) -> Message:
        return _RebuildingCall(continuation(details, request))

    intercept_unary_unary: Any = _intercept
    intercept_unary_stream: Any = _intercept
    intercept_stream_unary: Any = _intercept
    intercept_stream_stream: Any = _intercept


def _clip(text: str, limit: int) -> str:
    # A file name may hold what is no character; protobuf would refuse it.
    raw = text.encode(errors="replace")
    short = raw if len(raw) <= limit else raw[: limit - 3] + b"..."
    return short.decode(errors="ignore")
