"""The port of the probes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadConfig, MalformedName
from letheon.servicekit.health_port import LIVENESS, READINESS, HealthPort

SERVING = health_pb2.HealthCheckResponse.SERVING


@contextmanager
def a_port() -> Iterator[tuple[HealthPort, health_pb2_grpc.HealthStub]]:
    health = HealthPort("127.0.0.1:0", conditions=("database", "redis"), informal=("leader",))
    health.start()
    assert health.address is not None
    try:
        with grpc.insecure_channel(health.address) as channel:
            yield health, health_pb2_grpc.HealthStub(channel)
    finally:
        health.stop()


def is_serving(stub: health_pb2_grpc.HealthStub, name: str) -> bool:
    answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
    return bool(answer.status == SERVING)


def test_it_lives_before_it_is_ready_and_says_which_condition_lacks() -> None:
    with a_port() as (health, stub):
        assert is_serving(stub, LIVENESS)
        assert not is_serving(stub, READINESS)
        health.note("database", holds=True)
        assert is_serving(stub, "database")
        assert not is_serving(stub, "redis")
        assert not is_serving(stub, READINESS)
        health.note("redis", holds=True)
        assert is_serving(stub, READINESS)
        assert is_serving(stub, "")
        health.note("database", holds=False)
        assert not is_serving(stub, READINESS)
        assert is_serving(stub, LIVENESS)


def test_an_informal_name_is_told_and_does_not_count() -> None:
    with a_port() as (health, stub):
        for name in ("database", "redis"):
            health.note(name, holds=True)
        assert is_serving(stub, READINESS)
        assert not is_serving(stub, "leader")
        health.note("leader", holds=True)
        assert is_serving(stub, "leader")


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), max_size=30))
def test_it_is_ready_exactly_while_every_condition_holds(notes: list[tuple[str, bool]]) -> None:
    health = HealthPort(None, conditions=("a", "b"), informal=("c",))
    holds = dict.fromkeys("abc", False)
    for name, held in notes:
        health.note(name, holds=held)
        holds[name] = held
        assert health.is_ready == (holds["a"] and holds["b"])


def test_what_was_not_declared_is_refused() -> None:
    health = HealthPort(None, conditions=("database",))
    with pytest.raises(MalformedName, match="disk is no condition"):
        health.note("disk", holds=True)


def test_a_port_that_is_taken_is_named() -> None:
    with a_port() as (health, _), pytest.raises(BadConfig, match="in use"):
        HealthPort(health.address, conditions=()).start()
