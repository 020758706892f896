"""An OTLP receiver in this process: a real gRPC server that keeps the spans it is sent."""

from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc


@dataclass(frozen=True)
class Span:
    """What is looked at of a span."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    seconds: float


class Receiver(service_grpc.TraceServiceServicer):
    """`spans` grows while it serves; `address` is host:port."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service_grpc.add_TraceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"

    @property
    def endpoint(self) -> str:
        """For a `[tracing]` table."""
        return f"http://{self.address}"

    @property
    def spans(self) -> list[Span]:
        """Everything that arrived."""
        with self._lock:
            return list(self._spans)

    def services_of(self, trace: str) -> set[str]:
        """Who took part in a trace."""
        return {span.service for span in self.spans if span.trace == trace}

    def Export(  # noqa: N802 (gRPC names it)
        self, request: service.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> service.ExportTraceServiceResponse:
        found = []
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                found += [
                    Span(
                        names["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    )
                    for span in scope.spans
                ]
        with self._lock:
            self._spans += found
        return service.ExportTraceServiceResponse()

    def __enter__(self) -> Receiver:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0.5).wait()
