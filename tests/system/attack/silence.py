"""Calls that hold what others need: silent ones, slow ones, and too many of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from letheon.errors import CoordinatorUnreachable, LetheonError, RateLimited
from letheon.federation.encoding import encode
from letheon.servicekit.route import TlsFiles
from letheon.v1 import federation_pb2, training_pb2
from letheon.v1.federation_pb2_grpc import FederationStub

from .attacks import Outcome, attack, refused, stopped, succeeded
from .insider import chunk
from .world import World

FAMILY = "silence and floods"
_CALLS = 40  # more than the coordinator has workers
_PATIENCE_S = 2.0  # as the world configures it
_SLACK_S = 3.0
_PER_S, _BURST = 100, 200  # calls of one identity


def _held(channel: grpc.Channel, method: str, over: threading.Event) -> list[Any]:
    """Opens calls that send nothing: their requests never come."""

    def nothing() -> Iterator[bytes]:
        over.wait(30)
        yield from ()

    call = channel.stream_unary(
        method, request_serializer=lambda raw: raw, response_deserializer=lambda raw: raw
    )
    return [call.future(nothing(), timeout=30.0) for _ in range(_CALLS)]


def _silent(world: World, channel: grpc.Channel, method: str) -> Outcome:
    """Opens them, looks whether others are served, and when the calls have ended."""
    over, began = threading.Event(), time.monotonic()
    held = _held(channel, method, over)
    try:
        time.sleep(0.5)  # they are all at the coordinator; nothing tells when
        waits = []
        for _ in range(5):
            asked = time.monotonic()
            try:
                _ping(world.operator())
            except LetheonError as error:
                return succeeded(f"others are refused meanwhile: {error.reason}: {error.message}")
            waits.append(time.monotonic() - asked)
        refusals = sum(call.done() for call in held)
        for call in held:
            if call.exception(timeout=30.0) is None:
                return succeeded("a call without a request was answered")
        lasted = time.monotonic() - began
    finally:
        over.set()
    if lasted > _PATIENCE_S + _SLACK_S:
        return succeeded(f"workers were held for {lasted:.0f} s")
    return stopped(
        f"{refusals} of {_CALLS} refused at once, the others ended after {lasted:.1f} s (patience "
        f"here {_PATIENCE_S:.0f} s); others were answered in {max(waits) * 1000:.0f} ms"
    )


def _ping(channel: grpc.Channel) -> object:
    return FederationStub(channel).GetFederation(federation_pb2.GetFederationRequest(), timeout=5)


@attack(FAMILY, f"{_CALLS} uploads of one site that never send their header",
        expected="8 at once, each ended after the patience; others are served",
        quick=True)  # fmt: skip
def silent_uploads(world: World) -> Outcome:
    channel = world.channel_with(world.insiders["north"].files)
    return _silent(world, channel, "/letheon.v1.Training/PushDelta")


@attack(FAMILY, f"{_CALLS} plain calls of one site that never send their request",
        expected="as above")  # fmt: skip
def silent_calls(world: World) -> Outcome:
    channel = world.channel_with(world.insiders["south"].files)
    return _silent(world, channel, "/letheon.v1.Training/NextTask")


@attack(FAMILY, f"{_CALLS} calls without a certificate that never send their request",
        expected="as above, by address")  # fmt: skip
def silent_strangers(world: World) -> Outcome:
    channel = world.channel_with(TlsFiles(ca=world.secure.authority / "ca.pem"), world.enrolment)
    return _silent(world, channel, "/letheon.v1.Enrolment/Enrol")


@attack(FAMILY, "an upload that trickles a byte at a time", expected="ended in bounded time")
def slow_loris(world: World) -> Outcome:
    north = world.insiders["north"]
    payload = encode(north.honest(60), world.plan.encoding)
    began = time.monotonic()

    def parts() -> Iterator[training_pb2.PushDeltaRequest]:
        yield training_pb2.PushDeltaRequest(header=north.header(payload))
        for offset in range(len(payload)):
            yield chunk(payload[offset : offset + 1], offset)
            time.sleep(0.2)

    said = refused(
        lambda: north.training.PushDelta(parts(), timeout=30.0), CoordinatorUnreachable, RateLimited
    )
    lasted = time.monotonic() - began
    if lasted > _PATIENCE_S + 1 + _SLACK_S:
        return succeeded(f"it held a slot for {lasted:.0f} s")
    if said.verdict != "stopped":
        return said
    return stopped(f"ended after {lasted:.1f} s (patience here {_PATIENCE_S:.0f} s)")


@attack(FAMILY, "a thousand calls of one site as fast as they go", expected="RATE_LIMITED")
def flood_of_calls(world: World) -> Outcome:
    channel = world.channel_with(world.insiders["east"].files)
    began = time.monotonic()

    def call(_: int) -> bool:
        try:
            _ping(channel)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        answered = sum(pool.map(call, range(1000)))
    most = _BURST + _PER_S * (time.monotonic() - began)
    _ping(world.channel_with(world.insiders["west"].files))
    if answered > most + 1:
        return succeeded(f"{answered} were answered, {most:.0f} are due")
    return stopped("no more were answered than 200 and 100 a second; another site was served")
