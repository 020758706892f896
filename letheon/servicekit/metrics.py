"""The RPC histogram and the endpoint that Prometheus scrapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from prometheus_client import CollectorRegistry, Gauge, Histogram, start_http_server

from letheon.errors import BadConfig
from letheon.servicekit import tracing
from letheon.servicekit.interception import Method, around_calls, short_name, watch

_log = logging.getLogger(__name__)
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
        self._running = Gauge(
            "letheon_rpc_running", "Calls being served now, each in a worker.", registry=registry
        )

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps the method that gRPC found; an unknown method stays unknown."""
        method = short_name(handler_call_details.method)

        def report(code: grpc.StatusCode, seconds: float) -> None:
            self._seconds.labels(method, code.name).observe(seconds, tracing.exemplar())

        @contextmanager
        def around(context: grpc.ServicerContext) -> Iterator[None]:
            with self._running.track_inprogress(), watch(context, report):
                yield

        return around_calls(continuation(handler_call_details), around)


class MetricsEndpoint:
    """The page of a registry, from before the service serves until its end."""

    def __init__(self, listen: str | None, registry: CollectorRegistry) -> None:
        """`listen` is host:port; None: there is no page."""
        self._listen, self._registry = listen, registry
        self._close: Callable[[], None] | None = None
        self.address: str | None = None

    def open(self) -> None:
        """Serves the page; a page that is open stays so. Raises BadConfig as `serve_metrics`."""
        if self._listen is not None and self._close is None:
            self.address, self._close = serve_metrics(self._listen, self._registry)

    def open_if_free(self) -> None:
        """As `open`, but whoever is to be succeeded here may still hold the port."""
        try:
            self.open()
        except BadConfig as error:
            _log.info("metrics_wait", extra={"why": error.message})

    def close(self) -> None:
        """Ends the page; repeating it is harmless."""
        if self._close is not None:
            self._close()
            self._close = None


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
