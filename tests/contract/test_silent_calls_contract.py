"""Calls that send nothing hold no worker for long, and one identity holds a few at most."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from secure_coordinator import a_secure_coordinator

from letheon.errors import CoordinatorUnreachable, MalformedRequest
from letheon.servicekit.caller import Role
from letheon.v1 import federation_pb2, models_pb2
from letheon.v1.federation_pb2_grpc import FederationStub
from letheon.v1.models_pb2_grpc import ModelsStub

_WORKERS, _AT_ONCE = 4, 2
_UNLIMITED = {"calls_per_second": 1e6, "enrolments_per_hour": 1e6}


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Ends the requests that never come."""
    event = threading.Event()
    yield event
    event.set()


def running(folder: Path, silence_s: float) -> Any:
    config = {
        "limits": {"workers": _WORKERS, "silence_seconds": silence_s, "reserve_bytes": 0},
        "rate_limits": {**_UNLIMITED, "calls_at_once": _AT_ONCE},
    }
    return a_secure_coordinator(folder, config=config)


def silent(channel: grpc.Channel, method: str, over: threading.Event) -> Any:
    """A call whose request never comes."""

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    call = channel.stream_unary(
        f"/letheon.v1.{method}",
        request_serializer=lambda raw: raw,
        response_deserializer=lambda raw: raw,
    )
    return call.future(nothing(), timeout=60.0)


def hold(channel: grpc.Channel, method: str, over: threading.Event) -> None:
    """Twice as many silent calls as there are workers; returns once the rest was refused."""
    ended = threading.Semaphore(0)
    for _ in range(2 * _WORKERS):
        silent(channel, method, over).add_done_callback(lambda _: ended.release())
    for _ in range(2 * _WORKERS - _AT_ONCE):
        assert ended.acquire(timeout=30.0)


def ping(channel: grpc.Channel) -> object:
    return FederationStub(channel).GetFederation(federation_pb2.GetFederationRequest())


@pytest.mark.parametrize("method", ["Training/PushDelta", "Training/NextTask"])
def test_silent_calls_of_one_site_leave_room_for_the_others(
    tmp_path: Path, over: threading.Event, method: str
) -> None:
    with running(tmp_path, silence_s=60.0) as secured:
        channel = secured.channel(Role.SITE, "north")
        hold(channel, method, over)
        for _ in range(3):
            assert ping(secured.channel(Role.OPERATOR, "ada"))
        over.set()


def test_a_silent_call_is_ended_and_counted_with_the_role_of_its_caller(
    tmp_path: Path, over: threading.Event
) -> None:
    with running(tmp_path, silence_s=0.2) as secured:
        call = silent(secured.channel(Role.SITE, "north"), "Training/PushDelta", over)
        assert isinstance(call.exception(30.0), CoordinatorUnreachable)
        count = secured.coordinator.core.registry.get_sample_value
        labels = {"role": "site", "reason": "RATE_LIMITED"}
        pause = threading.Event()
        for _ in range(6000):  # it is counted after the caller has its answer
            if count("letheon_refused_calls_total", labels):
                break
            pause.wait(0.01)
        assert count("letheon_refused_calls_total", labels) == 1


def test_without_a_certificate_an_address_holds_a_few_calls(
    tmp_path: Path, over: threading.Event
) -> None:
    with running(tmp_path, silence_s=60.0) as secured:
        hold(secured.uncertified(), "Enrolment/Enrol", over)
        assert ping(secured.channel(Role.OPERATOR, "ada"))
        over.set()


def test_a_call_that_ended_makes_room_for_the_next(tmp_path: Path) -> None:
    with running(tmp_path, silence_s=60.0) as secured:
        channel = secured.channel(Role.OPERATOR, "ada")
        for _ in range(5 * _AT_ONCE):
            ping(channel)
            head = models_pb2.DownloadModelRequest(name="models/head", reader="operator")
            assert len(list(ModelsStub(channel).DownloadModel(head))) > 1


def test_a_plain_call_without_its_request_is_refused_with_a_sentence(tmp_path: Path) -> None:

    with running(tmp_path, silence_s=60.0) as secured:
        call = secured.channel(Role.OPERATOR, "ada").stream_unary(
            "/letheon.v1.Federation/GetPlan",
            request_serializer=lambda raw: raw,
            response_deserializer=lambda raw: raw,
        )
        with pytest.raises(MalformedRequest, match="carries no request"):
            call(iter(()))
