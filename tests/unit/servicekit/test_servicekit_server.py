import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from letheon.errors import BadConfig, Busy, CoordinatorUnreachable, LetheonError, SiteFenced
from letheon.servicekit import channel as channel_module
from letheon.servicekit import server as server_module
from letheon.servicekit.channel import open_channel
from letheon.servicekit.metrics import RpcMetrics, serve_metrics
from letheon.servicekit.server import Server

CODEC: dict[str, Any] = {
    "request_deserializer": StringValue.FromString,
    "response_serializer": StringValue.SerializeToString,
}


class Gate:
    """A service whose calls wait until they are let through."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.let_through = threading.Event()
        self.error: Exception | None = None

    def wait(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        self.entered.release()
        self.let_through.wait(20)
        if self.error is not None:
            raise self.error
        return request

    def count(self, request: StringValue, context: grpc.ServicerContext) -> Iterator[StringValue]:
        for _ in range(1000):
            yield request

    def register(self, server: grpc.Server) -> None:
        methods: dict[str, Any] = {
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait, **CODEC),
            "Count": grpc.unary_stream_rpc_method_handler(self.count, **CODEC),
        }
        generic = grpc.method_handlers_generic_handler("test.Gate", methods)
        server.add_generic_rpc_handlers((generic,))


def a_server(gate: Gate, **arguments: Any) -> Server:
    return Server([(lambda g, server: g.register(server), gate)], **arguments)


def waiting(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        "/test.Gate/Wait",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )


def test_a_taken_port_is_named() -> None:
    first = Server([])
    address = first.start()
    with pytest.raises(BadConfig, match=address.rpartition(":")[2]):
        Server([], listen=address).start()
    first.stop(0)


@pytest.mark.parametrize("listen", ["nowhere", ":1", "127.0.0.1:", "127.0.0.1:http"])
def test_a_malformed_address_is_a_bad_config(listen: str) -> None:
    with pytest.raises(BadConfig, match="host:port"):
        Server([], listen=listen).start()


def test_health_knows_the_services_and_reflection_lists_them() -> None:
    server = Server([], service_names=("letheon.v1.Training",))
    with grpc.insecure_channel(server.start()) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "letheon.v1.Training"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([ask]), timeout=60)
        names = {service.name for service in answer.list_services_response.service}
        assert {"letheon.v1.Training", "grpc.health.v1.Health"} <= names
    server.stop(0)


def test_draining_tells_probes_first_and_lets_running_calls_finish() -> None:
    gate = Gate()
    server = a_server(gate)
    address = server.start()
    with open_channel(address) as channel, grpc.insecure_channel(address) as probe:
        watch = health_pb2_grpc.HealthStub(probe).Watch(
            health_pb2.HealthCheckRequest(service=""), timeout=20
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running = waiting(channel).future(StringValue(value="kept"))
        assert gate.entered.acquire(timeout=60)
        stopper = threading.Thread(target=server.stop, args=(20,))
        stopper.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        gate.let_through.set()
        assert running.result(timeout=60).value == "kept"
        stopper.join(20)
        with pytest.raises(CoordinatorUnreachable):
            waiting(channel)(StringValue(), timeout=5)


def test_a_call_that_outlasts_the_grace_is_ended() -> None:
    gate = Gate()
    server = a_server(gate)
    with open_channel(server.start()) as channel:
        running = waiting(channel).future(StringValue())
        assert gate.entered.acquire(timeout=60)
        server.stop(0.05)
        with pytest.raises(CoordinatorUnreachable):
            running.result(timeout=60)
    gate.let_through.set()


def test_a_server_that_never_started_can_be_stopped() -> None:
    Server([]).stop(0)


def test_one_call_too_many_is_told_to_wait_at_once() -> None:
    gate = Gate()
    server = a_server(gate, workers=1)
    with open_channel(server.start()) as channel:
        held = [waiting(channel).future(StringValue()) for _ in range(2)]
        assert gate.entered.acquire(timeout=60)
        refused = [waiting(channel).future(StringValue()) for _ in range(3)]
        with pytest.raises(Busy):
            refused[-1].result(timeout=60)
        gate.let_through.set()
        for call in held:
            call.result(timeout=60)
    server.stop(0)


def test_a_call_without_a_deadline_gets_that_of_the_channel() -> None:
    gate = Gate()
    server = a_server(gate)
    with open_channel(server.start(), deadline_s=0.2) as channel:
        with pytest.raises(CoordinatorUnreachable, match="Deadline"):
            waiting(channel)(StringValue())
        gate.let_through.set()
        assert waiting(channel)(StringValue(value="x"), timeout=20).value == "x"
    server.stop(0)


def observed(registry: CollectorRegistry, method: str, code: str) -> float | None:
    return registry.get_sample_value("letheon_rpc_seconds_count", {"method": method, "code": code})


def test_calls_are_observed_by_short_method_and_code() -> None:
    registry, gate = CollectorRegistry(), Gate()
    gate.let_through.set()
    server = a_server(gate, interceptors=[RpcMetrics(registry)])
    with open_channel(server.start()) as channel:
        waiting(channel)(StringValue())
        gate.error = SiteFenced("fenced")
        with pytest.raises(SiteFenced):
            waiting(channel)(StringValue())
        gate.error = RuntimeError("bug")
        with pytest.raises(Exception, match="correlation"):
            waiting(channel)(StringValue())
        unknown = channel.unary_unary("/test.Gate/Invented")
        with pytest.raises(Exception, match="not found"):
            unknown(b"")
    server.stop(5)
    assert observed(registry, "Wait", "OK") == 1
    assert observed(registry, "Wait", "FAILED_PRECONDITION") == 1
    assert observed(registry, "Wait", "INTERNAL") == 1
    assert observed(registry, "Invented", "UNIMPLEMENTED") is None


def test_a_stream_that_the_caller_leaves_is_observed_once() -> None:
    registry, gate = CollectorRegistry(), Gate()
    server = a_server(gate, interceptors=[RpcMetrics(registry)])
    with open_channel(server.start()) as channel:
        stream = channel.unary_stream(
            "/test.Gate/Count",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        answers = stream(StringValue(value="x" * 100_000))
        next(answers)
        answers.cancel()
        assert len(list(stream(StringValue(value="y")))) == 1000
    server.stop(5)
    total = sum(
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "letheon_rpc_seconds_count"
    )
    assert total == 2
    assert observed(registry, "Count", "OK") == 1


def test_every_option_is_known_to_the_grpc_library() -> None:
    # A key that it does not know is ignored in silence: the fate of a popular keepalive key.
    library = Path(cygrpc.__file__).read_bytes()
    keys = [key for key, _ in (*server_module._OPTIONS, *channel_module._OPTIONS)]
    assert [key for key in keys if key.encode() + b"\0" not in library] == []


def test_a_client_pings_less_often_than_a_server_bears() -> None:
    bears_ms = dict(server_module._OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
    assert dict(channel_module._OPTIONS)["grpc.keepalive_time_ms"] >= 2 * int(bears_ms)


def test_calls_that_end_well_are_logged_quietly_and_faults_loudly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    gate.let_through.set()
    server = a_server(gate)
    with caplog.at_level(logging.DEBUG), open_channel(server.start()) as channel:
        waiting(channel)(StringValue())
        for error in (SiteFenced("fenced"), RuntimeError("bug")):
            gate.error = error
            with pytest.raises(LetheonError):
                waiting(channel)(StringValue())
        server.stop(5)
    lines = [record for record in caplog.records if record.message == "rpc"]
    assert [(line.levelname, line.__dict__["code"]) for line in lines] == [
        ("DEBUG", "OK"),
        ("INFO", "FAILED_PRECONDITION"),
        ("ERROR", "INTERNAL"),
    ]
    assert all(line.__dict__["method"] == "Wait" for line in lines)
    assert all(line.__dict__["duration_ms"] >= 0 for line in lines)


def test_the_metrics_endpoint_serves_and_closes() -> None:
    registry = CollectorRegistry()
    RpcMetrics(registry)
    address, close = serve_metrics("127.0.0.1:0", registry)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as page:
        assert b"letheon_rpc_seconds" in page.read()
    close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=60)


def test_a_metrics_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadConfig, match=str(port)):
            serve_metrics(f"127.0.0.1:{port}", CollectorRegistry())
    with pytest.raises(BadConfig, match="host:port"):
        serve_metrics("nonsense", CollectorRegistry())
