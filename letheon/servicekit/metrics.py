"""The RPC histogram and the endpoint that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import grpc
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from letheon.errors import BadConfig
from letheon.servicekit.interception import Method, around_calls, short_name, watch

# From a heartbeat on loopback to a segment over a hospital's slow link.
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class RpcMetrics(grpc.ServerInterceptor):
    """Observes `letheon_rpc_seconds{method, code}`.

    `method` is the short name of a method that is served; unknown ones are not counted, so a
    caller cannot grow the label set.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "letheon_rpc_seconds",
            "Duration of served calls.",
            ("method", "code"),
            registry=registry,
            buckets=_BUCKETS_S,
        )

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps the method that gRPC found; an unknown method stays unknown."""
        method = short_name(handler_call_details.method)

        def report(code: grpc.StatusCode, seconds: float) -> None:
            self._seconds.labels(method, code.name).observe(seconds)

        def around(context: grpc.ServicerContext) -> AbstractContextManager[None]:
            return watch(context, report)

        return around_calls(continuation(handler_call_details), around)


def serve_metrics(listen: str, registry: CollectorRegistry) -> tuple[str, Callable[[], None]]:
    """Serves the registry over HTTP; returns the bound `host:port` and what closes it.

    Raises BadConfig naming the address if it is malformed or in use.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise BadConfig(f"cannot serve metrics on {listen!r}: host:port is due", key="metrics")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, OverflowError) as error:
        raise BadConfig(
            f"cannot serve metrics on {listen}: {error}", key="metrics", port=port
        ) from error

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return f"{host}:{server.server_port}", close
