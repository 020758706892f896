"""The gRPC server of a service: limits, keepalive, health, reflection, drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from letheon.errors import BadConfig
from letheon.servicekit import tracing
from letheon.servicekit.logs import CallLog
from letheon.servicekit.status import ErrorInterceptor

_MIB = 1024 * 1024
# A message carries at most 1 MiB of payload and a layout; 64 KiB of slack for its framing.
MESSAGE_BYTES = 2 * _MIB + 64 * 1024

_OPTIONS = (
    # Two servers on one port would each get half of the calls; the second one must fail.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Clients ping every 10 s. The similar key with "recv" in it, seen in many projects, is not
    # known to the C core, and without this one it answers GOAWAY "too_many_pings".
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Finds peers that vanished in mid-upload, so that their slots come free.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Lets load balancers spread again. A segment that outlives the grace is resumed.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
)

Register = Callable[[Any, grpc.Server], None]


class Server:
    """A threaded server. Each call holds one worker; one call too many is RESOURCE_EXHAUSTED.

    `servicers` pairs a generated `add_XServicer_to_server` with its servicer; `service_names`
    are the full names (`letheon.v1.Training`) that health and reflection know. Without
    `credentials` the connection is plain. `second` is another `host:port` with credentials of its
    own for the same services; its bound address is `second_address` once started.
    """

    def __init__(
        self,
        servicers: Sequence[tuple[Register, object]],
        *,
        listen: str = "127.0.0.1:0",
        workers: int = 32,
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        service_names: Sequence[str] = (),
        credentials: grpc.ServerCredentials | None = None,
        second: tuple[str, grpc.ServerCredentials] | None = None,
    ) -> None:
        self.second_address: str | None = None
        self._second = second
        self._listen = listen
        self._credentials = credentials
        self._service_names = tuple(service_names)
        self._pool = futures.ThreadPoolExecutor(workers, thread_name_prefix="rpc")
        # Watch streams of probes must not hold workers, so the health service is non-blocking.
        self._health_pool = futures.ThreadPoolExecutor(1, thread_name_prefix="health")
        self._server = grpc.server(
            self._pool,
            interceptors=[
                *tracing.server_interceptors(),
                ErrorInterceptor(),
                CallLog(),
                *interceptors,
            ],
            options=_OPTIONS,
            maximum_concurrent_rpcs=workers + 1,
        )
        for register, servicer in servicers:
            register(servicer, self._server)
        self._health = health.HealthServicer(
            experimental_non_blocking=True, experimental_thread_pool=self._health_pool
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*self._service_names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    def start(self, *, healthy: bool = True) -> str:
        """Binds, serves, reports SERVING if `healthy` and returns the bound `host:port`.

        Raises BadConfig naming the address if it is malformed or in use.
        """
        address = self._bind(self._listen, self._credentials)
        if self._second is not None:
            self.second_address = self._bind(*self._second)
        self._server.start()
        self.report(healthy=healthy)
        return address

    def report(self, *, healthy: bool) -> None:
        """SERVING or NOT_SERVING, to whoever asks or watches."""
        for name in ("", *self._service_names):
            self.report_one(name, healthy=healthy)

    def report_one(self, name: str, *, healthy: bool) -> None:
        """The same, of one name alone."""
        answers = health_pb2.HealthCheckResponse
        self._health.set(name, answers.SERVING if healthy else answers.NOT_SERVING)

    def stop(self, grace_s: float = 10.0) -> None:
        """Reports NOT_SERVING, refuses new calls, gives running ones `grace_s` seconds."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._health_pool.shutdown(wait=False, cancel_futures=True)

    def _bind(self, listen: str, credentials: grpc.ServerCredentials | None) -> str:
        host, colon, port = listen.rpartition(":")
        if not colon or not host or not port.isdecimal():
            raise BadConfig(f"cannot listen on {listen!r}: host:port is due", key="listen")
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(listen)
            else:
                bound = self._server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise self._taken(listen, port) from error
        if bound == 0:
            raise self._taken(listen, port)
        return f"{host}:{bound}"

    def _taken(self, listen: str, port: str) -> BadConfig:
        return BadConfig(
            f"cannot listen on {listen}: port {port} is in use, or the address is not one "
            "of this machine",
            key="listen",
            port=port,
        )
