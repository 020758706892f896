"""Opening a channel: keepalive, message limits, deadlines, and errors in our own words."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from letheon.servicekit import tracing
from letheon.servicekit.interception import Message
from letheon.servicekit.reloading_channel import ReloadingChannel
from letheon.servicekit.route import Route, credentials_of, stamps_of
from letheon.servicekit.server import MESSAGE_BYTES
from letheon.servicekit.status import RebuildErrors

# Keepalive outlives the idle cut-offs of load balancers and hospital firewalls (240-350 s), and is
# how a peer is noticed whose machine vanished or whose process is stopped: after 40 s at most.
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own pings measure the link while data arrive, and keepalive waits for their answer. It
    # may lie behind a few MiB of a model on a slow link, so what arrives does not count here.
    ("grpc.http2.ping_timeout_ms", 30_000),
    # By default a channel that lost its server waits up to two minutes before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    # Sites that look every two seconds are no load, and a change of leaders costs no more.
    ("grpc.max_reconnect_backoff_ms", 2_000),
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


def open_channel(
    address: str, *, deadline_s: float = 30.0, route: Route | None = None
) -> grpc.Channel:
    """A channel to `host:port` whose stubs raise LetheonError.

    It connects when it is first used. Every call ends within `deadline_s` seconds unless it
    passes a `timeout` of its own, as transfers do. Without a route the connection is plain, and
    gRPC looks for a proxy in the environment. Files of the route that were replaced are used from
    the next call on.

    Raises BadConfig if a file of the route cannot be used.
    """
    if route is None:
        channel = grpc.insecure_channel(address, options=_OPTIONS)
    else:
        channel = _routed(address, route)
    interceptors = (*tracing.client_interceptors(), RebuildErrors(), DefaultDeadline(deadline_s))
    return grpc.intercept_channel(channel, *interceptors)


def _routed(address: str, route: Route) -> grpc.Channel:
    # Where it is set, gRPC looks at no_proxy of the environment no more, not even beside a proxy
    # that was named to it; which hosts need none is decided before this.
    os.environ["no_grpc_proxy"] = ""  # noqa: SIM112 - its name
    options = (*_OPTIONS, *route.options())
    tls = route.tls
    if tls is None:
        return grpc.insecure_channel(address, options=options)

    def opened() -> grpc.Channel:
        return grpc.secure_channel(address, credentials_of(tls), options=options)

    return ReloadingChannel(opened, lambda: stamps_of(tls))
