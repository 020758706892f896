"""Traces across services: what runs under which request, and where the time went.

    with tracing.span("update.merge"):
        ...

Until `start` has been called with an endpoint every function here does nothing, and no library of
traces is imported. There is one tracing a process, as there is one log: a span must find the one
around it without every function between handing it down.

A trace crosses a process as a W3C `traceparent` text. Where the link is only a row of the database,
`leave` keeps the text in memory under a key until `resumed` asks for it: a restart in between
begins a new trace and loses nothing else.
"""

# ruff: noqa: ARG002 (a tracing that is off looks at no argument)
from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, Protocol

import grpc
from pydantic import Field

from letheon.errors import BadConfig
from letheon.servicekit.config import Section

TRACEPARENT: Final = "traceparent"
# Asked for every second, all day long: as spans they would bury the others.
POLLS: Final = frozenset(
    {"Heartbeat", "NextTask", "RenewClaim", "ListAnswers", "GetFederation", "Check", "Watch"}
)


class TracingConfig(Section):
    """Where traces go. Off without an endpoint."""

    endpoint: str | None = Field(
        default=None, description="OTLP receiver, http://host:4317 or https://...; none: no traces"
    )
    share: float = Field(default=1.0, ge=0, le=1, description="of the traces begun here")
    ca: Path | None = Field(
        default=None, description="PEM that an https endpoint is checked with; none: the system's"
    )


class Tracing(Protocol):
    """What the functions of this module do once tracing is on."""

    def span(self, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[None]:
        """Begins a span below the present one, or a trace."""
        ...

    def record(self, name: str, seconds: float, attributes: Mapping[str, str]) -> None:
        """A span that ends now and began so many seconds ago; only inside of a trace."""
        ...

    def traceparent(self) -> str | None:
        """The present span, as W3C Trace Context writes it."""
        ...

    def continuing(self, traceparent: str | None) -> AbstractContextManager[None]:
        """What is inside belongs to the trace of another process; None: to no trace."""
        ...

    def leave(self, key: str) -> None:
        """Keeps the present span under a key."""
        ...

    def left(self, key: str) -> str | None:
        """What was left under a key."""
        ...

    def trace_id(self) -> str | None:
        """32 hex digits, if the present trace is one that is kept."""
        ...

    def server_interceptors(self) -> tuple[grpc.ServerInterceptor, ...]:
        """For a server; the outermost ones."""
        ...

    def client_interceptors(self) -> tuple[grpc.UnaryUnaryClientInterceptor, ...]:
        """For a channel; the outermost ones."""
        ...


class _Off:
    """No tracing."""

    def span(self, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, name: str, seconds: float, attributes: Mapping[str, str]) -> None:
        pass

    def traceparent(self) -> str | None:
        return None

    def continuing(self, traceparent: str | None) -> AbstractContextManager[None]:
        return nullcontext()

    def leave(self, key: str) -> None:
        pass

    def left(self, key: str) -> str | None:
        return None

    def trace_id(self) -> str | None:
        return None

    def server_interceptors(self) -> tuple[grpc.ServerInterceptor, ...]:
        return ()

    def client_interceptors(self) -> tuple[grpc.UnaryUnaryClientInterceptor, ...]:
        return ()


class _Process:
    """The tracing of this process."""

    tracing: Tracing = _Off()


def start(service: str, config: TracingConfig) -> Callable[[], None]:
    """Turns tracing on if the configuration names an endpoint; what ends it sends the rest off.

    Call it before servers and channels are made. Raises BadConfig without the extra `tracing`, or
    for an endpoint or a file that cannot be used.
    """
    if config.endpoint is None:
        return lambda: None
    try:
        from letheon.servicekit.otel_tracing import OtelTracing
    except ImportError as error:
        raise BadConfig(
            "tracing.endpoint is set, but OpenTelemetry is not installed: "
            "pip install 'letheon[tracing]'",
            key="tracing.endpoint",
        ) from error
    tracing = OtelTracing(service, config)
    _Process.tracing = tracing

    def stop() -> None:
        _Process.tracing = _Off()
        tracing.close()

    return stop


def span(name: str, **attributes: str) -> AbstractContextManager[None]:
    """A span below the present one, or the first of a trace. Attributes: never of a record."""
    return _Process.tracing.span(name, attributes)


def record(name: str, seconds: float, **attributes: str) -> None:
    """A span that ends now and began so many seconds ago, if there is a trace at all."""
    _Process.tracing.record(name, seconds, attributes)


def traceparent() -> str | None:
    """The present span as text, or None."""
    return _Process.tracing.traceparent()


def continuing(text: str | None) -> AbstractContextManager[None]:
    """Goes on with the trace of another process; a text that is none begins no trace."""
    return _Process.tracing.continuing(text)


def leave(key: str) -> None:
    """Keeps the present span under a key for `resumed`; the oldest of many keys are dropped."""
    _Process.tracing.leave(key)


def resumed(key: str) -> AbstractContextManager[None]:
    """Goes on where `leave` was called with this key, if it was."""
    return _Process.tracing.continuing(_Process.tracing.left(key))


def left(key: str) -> str | None:
    """The text that `leave` kept under this key, or None."""
    return _Process.tracing.left(key)


def trace_id() -> str | None:
    """The present trace, or None."""
    return _Process.tracing.trace_id()


def exemplar() -> dict[str, str] | None:
    """What links an observation of a histogram to the present trace, or None."""
    found = _Process.tracing.trace_id()
    return None if found is None else {"trace_id": found}


def server_interceptors() -> tuple[grpc.ServerInterceptor, ...]:
    """The outermost interceptors of a server; none while tracing is off."""
    return _Process.tracing.server_interceptors()


def client_interceptors() -> tuple[grpc.UnaryUnaryClientInterceptor, ...]:
    """The outermost interceptors of a channel; none while tracing is off."""
    return _Process.tracing.client_interceptors()
