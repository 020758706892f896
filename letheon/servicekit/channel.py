"""Opening a channel: keepalive, message limits, deadlines, and errors in our own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from letheon.servicekit.interception import Message
from letheon.servicekit.server import MESSAGE_BYTES
from letheon.servicekit.status import RebuildErrors

# Keepalive outlives the idle cut-offs of load balancers and hospital firewalls (240-350 s).
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # By default a channel that lost its server waits up to two minutes before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 10_000),
)


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _CallDetails(_Details, grpc.ClientCallDetails):
    """Call details with a deadline filled in."""


class DefaultDeadline(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Gives every call a deadline that has none of its own, for all four kinds of call."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s

    def _intercept(
        self,
        continuation: Callable[..., Message],
        details: grpc.ClientCallDetails,
        request: Message,
    ) -> Message:
        if details.timeout is None:
            details = _CallDetails(
                details.method,
                self._deadline_s,
                details.metadata,
                details.credentials,
                getattr(details, "wait_for_ready", None),
                getattr(details, "compression", None),
            )
        return continuation(details, request)

    intercept_unary_unary: Any = _intercept
    intercept_unary_stream: Any = _intercept
    intercept_stream_unary: Any = _intercept
    intercept_stream_stream: Any = _intercept


def open_channel(address: str, *, deadline_s: float = 30.0) -> grpc.Channel:
    """A channel to `host:port` whose stubs raise LetheonError.

    It connects when it is first used. Every call ends within `deadline_s` seconds unless it
    passes a `timeout` of its own, as transfers do.
    """
    channel = grpc.insecure_channel(address, options=_OPTIONS)
    return grpc.intercept_channel(channel, RebuildErrors(), DefaultDeadline(deadline_s))
