"""Traces over real calls, sent to a real OTLP receiver in this process."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from builders import a_coordinator, a_vector

from letheon.errors import BadConfig, UnknownSite
from letheon.servicekit import tracing
from letheon.servicekit.erasure_queue import MemoryErasureQueue
from letheon.servicekit.tracing import TracingConfig
from letheon.v1 import erasures_pb2, erasures_pb2_grpc, sites_pb2, training_pb2

pytest.importorskip("opentelemetry.sdk")
from observing_receiver import Receiver, Span


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


def sent(receiver: Receiver, stop: object) -> dict[str, Span]:
    """What arrived by the end, by name; of several, the last."""
    assert callable(stop)
    stop()
    return {span.name: span for span in receiver.spans}


def test_a_delta_is_one_trace_from_the_caller_to_the_merge(
    receiver: Receiver, tmp_path: Path
) -> None:
    stop = tracing.start("test", TracingConfig(endpoint=receiver.endpoint))
    page = {"metrics_listen": "127.0.0.1:0"}
    with a_coordinator(tmp_path, config=page) as (coordinator, client):
        client.register("north")
        with tracing.span("update.upload", site="north"):
            client.push("north", a_vector(1))
            trace = tracing.trace_id()
        assert trace is not None
        text = _open_metrics(coordinator.metrics_address or "")
    spans = sent(receiver, stop)
    stages = ("receive", "validate", "persist", "merge")
    for name in ("PushDelta", *(f"update.{stage}" for stage in stages)):
        assert spans[name].trace == trace, name
    by_id = {span.id: span for span in receiver.spans}
    served = by_id[spans["update.receive"].parent]
    assert served.name == "PushDelta"
    made = by_id[served.parent]
    assert made.name == "PushDelta"  # of the caller
    assert by_id[made.parent].name == "update.upload"
    # Durations link to it.
    assert f'trace_id="{trace}"' in text
    assert 'letheon_rpc_seconds_bucket{code="OK",le=' in text


def test_an_erasure_carries_its_trace_into_the_stream(receiver: Receiver, tmp_path: Path) -> None:
    stop = tracing.start("test", TracingConfig(endpoint=receiver.endpoint))
    queue = MemoryErasureQueue()
    with a_coordinator(tmp_path, queue=queue) as (_, client):
        client.register("north")
        client.push("north", a_vector(1))
        erasures = erasures_pb2_grpc.ErasuresStub(client.channel)
        with tracing.span("request"):
            trace = tracing.trace_id()
            erasures.RequestErasure(
                erasures_pb2.RequestErasureRequest(
                    request_id="r-1", site="sites/north", legal_basis="GDPR-17-1-b"
                )
            )
        entry = queue.take("calibrator-1", block_s=20.0)
    assert entry is not None
    assert entry.traceparent is not None
    assert entry.traceparent.split("-")[1] == trace
    with tracing.continuing(entry.traceparent), tracing.span("erasure.carry_out"):
        assert tracing.trace_id() == trace
    assert sent(receiver, stop)["erasure.carry_out"].trace == trace


def test_polls_make_no_spans_and_calls_outside_of_a_trace_begin_one_at_the_server(
    receiver: Receiver, tmp_path: Path
) -> None:
    stop = tracing.start("test", TracingConfig(endpoint=receiver.endpoint))
    with a_coordinator(tmp_path) as (_, client):
        client.register("north")
        client.training.NextTask(training_pb2.NextTaskRequest(site="sites/north"))
        with suppress(UnknownSite):
            client.sites.GetSite(sites_pb2.GetSiteRequest(name="sites/south"))
    spans = sent(receiver, stop)
    assert "NextTask" not in spans
    assert spans["RegisterSite"].parent == ""
    assert spans["GetSite"].trace != spans["RegisterSite"].trace


def test_a_share_of_none_keeps_nothing_and_makes_no_exemplar(
    receiver: Receiver, tmp_path: Path
) -> None:
    stop = tracing.start("test", TracingConfig(endpoint=receiver.endpoint, share=0.0))
    with a_coordinator(tmp_path) as (_, client):
        client.register("north")
        with tracing.span("update.upload"):
            assert tracing.exemplar() is None
            client.push("north", a_vector(1))
    assert sent(receiver, stop) == {}


def test_a_text_that_is_no_traceparent_begins_no_trace(receiver: Receiver) -> None:
    stop = tracing.start("test", TracingConfig(endpoint=receiver.endpoint))
    for text in ("", "00-zz", "00-" + 32 * "0" + "-" + 16 * "0" + "-01", "a" * 5000):
        with tracing.continuing(text):
            assert tracing.trace_id() is None
    sent(receiver, stop)


@pytest.mark.parametrize(
    ("service", "unwanted"),
    [
        ("client_agent.daemon", "opentelemetry"),
        # The client of Redis brings a part of OpenTelemetry by itself where it is installed.
        ("coordinator.bootstrap", "opentelemetry.exporter"),
        ("calibrator.bootstrap", "opentelemetry.exporter"),
    ],
)
def test_nothing_of_tracing_is_imported_while_it_is_off(service: str, unwanted: str) -> None:
    program = (
        f"import sys, {service}\n"
        "from letheon.servicekit import tracing\n"
        "stop = tracing.start('test', tracing.TracingConfig())\n"
        "with tracing.span('one'):\n"
        "    assert tracing.traceparent() is None and tracing.exemplar() is None\n"
        "assert tracing.server_interceptors() == tracing.client_interceptors() == ()\n"
        "stop()\n"
        f"unwanted = ({unwanted!r}, 'letheon.servicekit.otel_tracing')\n"
        "sys.exit(any(name.startswith(unwanted) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_receiver_that_is_away_costs_nothing_but_its_spans(tmp_path: Path) -> None:
    stop = tracing.start("test", TracingConfig(endpoint="http://127.0.0.1:1"))
    with a_coordinator(tmp_path) as (_, client):
        client.register("north")
        with tracing.span("update.upload"):
            assert client.push("north", a_vector(1)).version == 1
    stop()


def test_an_endpoint_without_a_scheme_is_refused_with_the_rule() -> None:
    with pytest.raises(BadConfig, match=r"no http://host:port or https://host:port"):
        tracing.start("test", TracingConfig(endpoint="collector:4317"))


def _open_metrics(address: str) -> str:
    request = urllib.request.Request(
        f"http://{address}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - ours
        return str(answer.read().decode())
