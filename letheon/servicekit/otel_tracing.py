"""Tracing by OpenTelemetry, sent by OTLP over gRPC. Imported only when there is an endpoint."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from letheon.errors import BadConfig, LetheonError
from letheon.servicekit.interception import Message, Method, around_calls, short_name, watch
from letheon.servicekit.tracing import POLLS, TRACEPARENT, TracingConfig
from letheon.version import __version__

_KEPT = 4096  # texts under keys; each is some hundred bytes
_SEND_EVERY_MS = 1000
_SEND_S = 5
_CLOSE_MS = 3000
_NO_FAULT = frozenset({grpc.StatusCode.OK, grpc.StatusCode.CANCELLED})

# Not OpenTelemetry's own context: a response stream may be given up from another thread, in which
# its tokens are of no use. None: no trace.
_PRESENT: ContextVar[Span | None] = ContextVar("letheon_span", default=None)


class OtelTracing:
    """The `Tracing` of a process that sends its spans to a receiver."""

    def __init__(self, service: str, config: TracingConfig) -> None:
        resource = Resource.create(
            {SERVICE_NAME: f"letheon-{service}", SERVICE_VERSION: __version__}
        )
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(config.share))
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(_exporter(config), schedule_delay_millis=_SEND_EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("letheon", __version__)
        self._wire = TraceContextTextMapPropagator()
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, str] = OrderedDict()

    def close(self) -> None:
        """Sends what is left, within seconds."""
        self._provider.force_flush(_CLOSE_MS)
        self._provider.shutdown()

    def span(self, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[None]:
        """Below the present span, or the first of a trace."""
        return self._inside(name, SpanKind.INTERNAL, attributes)

    def record(self, name: str, seconds: float, attributes: Mapping[str, str]) -> None:
        """A span of the past, if there is a present one."""
        if _PRESENT.get() is None:
            return
        now = time.time_ns()
        began = now - round(max(0.0, seconds) * 1e9)
        made = self._tracer.start_span(name, _context(), attributes=attributes, start_time=began)
        made.end(now)

    def traceparent(self) -> str | None:
        """The present span as text."""
        carrier: dict[str, str] = {}
        self._wire.inject(carrier, _context())
        return carrier.get(TRACEPARENT)

    @contextmanager
    def continuing(self, traceparent: str | None) -> Iterator[None]:
        """Goes on with another process's trace; without a valid text nothing is changed."""
        context = self._wire.extract({TRACEPARENT: traceparent or ""}, Context())
        remote = trace.get_current_span(context)
        if not remote.get_span_context().is_valid:
            yield
            return
        with _present(remote):
            yield

    def leave(self, key: str) -> None:
        """Keeps the present span under a key."""
        text = self.traceparent()
        if text is None:
            return
        with self._lock:
            self._kept[key] = text
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def left(self, key: str) -> str | None:
        """What was left under a key."""
        with self._lock:
            return self._kept.get(key)

    def trace_id(self) -> str | None:
        """The present trace, if it is one that is kept."""
        present = _PRESENT.get()
        if present is None or not present.get_span_context().trace_flags.sampled:
            return None
        return format(present.get_span_context().trace_id, "032x")

    def server_interceptors(self) -> tuple[grpc.ServerInterceptor, ...]:
        """Spans of served calls."""
        return (_ServedCalls(self),)

    def client_interceptors(self) -> tuple[grpc.UnaryUnaryClientInterceptor, ...]:
        """Spans of calls to others, and the text that names them."""
        return (_MadeCalls(self),)

    @contextmanager
    def _inside(self, name: str, kind: SpanKind, attributes: Mapping[str, str]) -> Iterator[None]:
        made = self._tracer.start_span(name, _context(), kind=kind, attributes=attributes)
        try:
            with _present(made):
                yield
        except BaseException as error:
            reason = error.reason if isinstance(error, LetheonError) else type(error).__name__
            made.set_status(Status(StatusCode.ERROR, reason))
            raise
        finally:
            made.end()

    @contextmanager
    def served(
        self, name: str, context: grpc.ServicerContext, traceparent: str | None
    ) -> Iterator[None]:
        """The span of a served call, whose caller may have named its own."""
        with self.continuing(traceparent):
            made = self._tracer.start_span(name, _context(), kind=SpanKind.SERVER)

        def report(code: grpc.StatusCode, _seconds: float) -> None:
            made.set_attribute("rpc.grpc.status_code", code.name)
            if code not in _NO_FAULT:
                made.set_status(Status(StatusCode.ERROR, code.name))

        try:
            with _present(made), watch(context, report):
                yield
        finally:
            made.end()

    def made(self, name: str) -> AbstractContextManager[None]:
        """The span of a call to another service."""
        return self._inside(name, SpanKind.CLIENT, {})


def _exporter(config: TracingConfig) -> OTLPSpanExporter:
    endpoint = config.endpoint or ""
    secure = endpoint.startswith("https://")
    if not secure and not endpoint.startswith("http://"):
        raise BadConfig(
            f"tracing.endpoint {endpoint!r} is no http://host:port or https://host:port",
            key="tracing.endpoint",
        )
    credentials = None
    if secure:
        try:
            ca = None if config.ca is None else config.ca.read_bytes()
        except OSError as error:
            raise BadConfig(f"tracing.ca cannot be read: {error}", key="tracing.ca") from error
        credentials = grpc.ssl_channel_credentials(ca)
    return OTLPSpanExporter(
        endpoint=endpoint, insecure=not secure, credentials=credentials, timeout=_SEND_S
    )


def _context() -> Context:
    present = _PRESENT.get()
    return Context() if present is None else trace.set_span_in_context(present, Context())


@contextmanager
def _present(span: Span) -> Iterator[None]:
    before = _PRESENT.get()
    _PRESENT.set(span)
    try:
        yield
    finally:
        _PRESENT.set(before)


class _ServedCalls(grpc.ServerInterceptor):
    """A span for every served call that is no poll."""

    def __init__(self, tracing: OtelTracing) -> None:
        self._tracing = tracing

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps the method that gRPC found."""
        method = continuation(handler_call_details)
        name = short_name(handler_call_details.method)
        if name in POLLS:
            return method
        metadata = handler_call_details.invocation_metadata or ()
        text = next((str(value) for key, value in metadata if key == TRACEPARENT), None)
        return around_calls(method, lambda context: self._tracing.served(name, context, text))


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _CallDetails(_Details, grpc.ClientCallDetails):
    """Call details with the present span among the metadata."""


class _MadeCalls(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Names the present span to the other side; calls outside of a trace are left as they are."""

    def __init__(self, tracing: OtelTracing) -> None:
        self._tracing = tracing

    def _one(
        self,
        continuation: Callable[..., Message],
        details: grpc.ClientCallDetails,
        request: Message,
    ) -> Message:
        name = short_name(details.method)
        if _PRESENT.get() is None or name in POLLS:
            return continuation(details, request)
        with self._tracing.made(name):
            return continuation(self._named(details), request)

    def _many(
        self,
        continuation: Callable[..., Message],
        details: grpc.ClientCallDetails,
        request: Message,
    ) -> Message:
        # The answers come after this has returned: the other side's span is the one that counts.
        if _PRESENT.get() is None:
            return continuation(details, request)
        return continuation(self._named(details), request)

    def _named(self, details: grpc.ClientCallDetails) -> _CallDetails:
        text = self._tracing.traceparent()
        named = () if text is None else ((TRACEPARENT, text),)
        return _CallDetails(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *named),
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )

    intercept_unary_unary: Any = _one
    intercept_stream_unary: Any = _one
    intercept_unary_stream: Any = _many
    intercept_stream_stream: Any = _many
