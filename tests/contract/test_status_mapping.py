"""Errors cross the wire: every class, all four kinds of call, through a real server."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon import errors
from letheon.errors import LetheonError
from letheon.servicekit.channel import open_channel
from letheon.servicekit.error_table import CODES, code_of
from letheon.servicekit.server import Server
from letheon.servicekit.status import rebuild

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
SERVICE = "test.Echo"


def every_class(root: type[LetheonError] = LetheonError) -> Iterator[type[LetheonError]]:
    for child in root.__subclasses__():
        yield child
        yield from every_class(child)


# Programs may have errors of their own that never travel.
CLASSES = sorted(
    {c for c in every_class() if c.__module__ == errors.__name__}, key=lambda c: c.__name__
)


class Echo:
    """Does what the test of the moment wants, in all four kinds of call."""

    def __init__(self) -> None:
        self.behaviour: Callable[[Any], None] = lambda context: None

    def one(self, request: Any, context: grpc.ServicerContext) -> StringValue:
        self.behaviour(context)
        return StringValue(value="answer")

    def many(self, request: Any, context: grpc.ServicerContext) -> Iterator[StringValue]:
        yield StringValue(value="first")
        self.behaviour(context)
        yield StringValue(value="second")

    def register(self, server: grpc.Server) -> None:
        codec: dict[str, Any] = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        methods = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.one, **codec),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self.many, **codec),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.one, **codec),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self.many, **codec),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, methods)
        server.add_generic_rpc_handlers((generic,))


class Caller:
    """Calls a kind and returns the answers as texts."""

    def __init__(self, channel: grpc.Channel) -> None:
        codec: dict[str, Any] = {
            "request_serializer": StringValue.SerializeToString,
            "response_deserializer": StringValue.FromString,
        }
        self.stubs: dict[str, Any] = {
            "UnaryUnary": channel.unary_unary(f"/{SERVICE}/UnaryUnary", **codec),
            "UnaryStream": channel.unary_stream(f"/{SERVICE}/UnaryStream", **codec),
            "StreamUnary": channel.stream_unary(f"/{SERVICE}/StreamUnary", **codec),
            "StreamStream": channel.stream_stream(f"/{SERVICE}/StreamStream", **codec),
        }

    def __call__(self, kind: str, timeout: float | None = None) -> list[str]:
        request: Any = StringValue(value="ask")
        if kind.startswith("Stream"):
            request = iter([request, request])
        answer = self.stubs[kind](request, timeout=timeout)
        return [a.value for a in answer] if kind.endswith("Stream") else [answer.value]


@pytest.fixture(scope="module")
def echo() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def call(echo: Echo) -> Iterator[Caller]:
    server = Server([(lambda servicer, server: servicer.register(server), echo)], workers=4)
    with open_channel(server.start()) as channel:
        yield Caller(channel)
    server.stop(0)


def raising(error: Exception) -> Callable[[Any], None]:
    def behaviour(context: Any) -> None:
        raise error

    return behaviour


def test_every_error_class_has_a_code_of_its_own_branch() -> None:
    strangers = [
        c.__name__
        for c in CLASSES
        if c is not errors.InternalFault and code_of(c) is grpc.StatusCode.INTERNAL
    ]
    assert strangers == []


def test_no_two_error_classes_share_a_reason() -> None:
    assert len({c.reason for c in CLASSES}) == len(CLASSES)


def test_no_error_maps_to_success() -> None:
    assert grpc.StatusCode.OK not in CODES.values()


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_error_the_answers_pass(call: Caller, echo: Echo, kind: str) -> None:
    echo.behaviour = lambda context: None
    assert call(kind)[-1] in ("answer", "second")


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_servicer_raises_the_caller_catches(
    call: Caller, echo: Echo, kind: str, error: type[LetheonError]
) -> None:
    echo.behaviour = raising(error("a sentence: ä", rule="norm", committed_bytes=7))
    with pytest.raises(LetheonError) as caught:
        call(kind)
    assert type(caught.value) is error
    assert caught.value.message == "a sentence: ä"
    assert caught.value.facts["rule"] == "norm"
    assert caught.value.facts["committed_bytes"] == "7"


@pytest.mark.parametrize("kind", KINDS)
def test_busy_tells_how_long_to_wait(call: Caller, echo: Echo, kind: str) -> None:
    echo.behaviour = raising(errors.DiskFull("no room", retry_after_s=12.5))
    with pytest.raises(errors.DiskFull) as caught:
        call(kind)
    assert caught.value.retry_after_s == 12.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_bug_shows_a_correlation_id_and_nothing_else(
    call: Caller, echo: Echo, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    echo.behaviour = raising(RuntimeError("patient 17"))
    with caplog.at_level(logging.ERROR), pytest.raises(errors.InternalFault) as caught:
        call(kind)
    assert "patient 17" not in str(caught.value) + str(caught.value.facts)
    logged = [r for r in caplog.records if r.message == "rpc_fault"]
    assert [r.__dict__["correlation_id"] for r in logged] == [caught.value.facts["correlation_id"]]
    assert logged[0].exc_info is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_a_servicer_aborts_itself_keeps_its_code(
    call: Caller, echo: Echo, kind: str
) -> None:
    echo.behaviour = lambda context: context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")
    with pytest.raises(errors.NotFound, match="nothing here"):
        call(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_that_passes_is_no_answer(call: Caller, echo: Echo, kind: str) -> None:
    over = threading.Event()

    def behaviour(context: Any) -> None:
        context.add_callback(over.set)
        over.wait(20)

    echo.behaviour = behaviour
    with pytest.raises(errors.CoordinatorUnreachable):
        call(kind, timeout=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_not_there_is_unreachable(kind: str) -> None:
    server = Server([])
    address = server.start()
    server.stop(0)
    with open_channel(address) as channel, pytest.raises(errors.CoordinatorUnreachable):
        Caller(channel)(kind, timeout=5)


def test_a_future_raises_the_same_error(call: Caller, echo: Echo) -> None:
    echo.behaviour = raising(errors.SiteFenced("fenced", erasure="erasures/e1"))
    future = call.stubs["UnaryUnary"].future(StringValue(value="ask"))
    with pytest.raises(errors.SiteFenced):
        future.result()
    assert isinstance(future.exception(), errors.SiteFenced)


def test_a_message_above_the_limit_is_the_callers_mistake(call: Caller, echo: Echo) -> None:
    echo.behaviour = lambda context: None
    with pytest.raises(errors.MalformedRequest, match="larger than max"):
        call.stubs["UnaryUnary"](StringValue(value="x" * (3 << 20)))


def test_a_method_that_is_not_served_is_an_internal_fault() -> None:
    server = Server([])
    with open_channel(server.start()) as channel, pytest.raises(errors.InternalFault):
        Caller(channel)("UnaryUnary")
    server.stop(0)


@settings(max_examples=40, deadline=None)
@given(
    message=st.text(max_size=4000),
    facts=st.dictionaries(
        st.sampled_from(["rule", "tensor", "erasure", "a", "b", "c"]), st.text(max_size=2000)
    ),
)
def test_however_long_the_texts_the_error_arrives(
    call: Caller, echo: Echo, message: str, facts: dict[str, str]
) -> None:
    echo.behaviour = raising(errors.MalformedUpdate(message, **facts))
    with pytest.raises(errors.MalformedUpdate) as caught:
        call("UnaryUnary")
    assert set(caught.value.facts) == set(facts)


class _Failed(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """A failed call as a peer that is not ours would answer it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "from elsewhere"

    def trailing_metadata(self) -> tuple[()]:
        return ()

    initial_metadata = is_active = time_remaining = cancel = add_callback = trailing_metadata


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_any_code_without_details_becomes_an_error_of_its_branch(code: grpc.StatusCode) -> None:
    built = rebuild(_Failed(code))
    silent = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
    if code in silent:
        assert isinstance(built, errors.CoordinatorUnreachable)
    elif code in CODES.values():
        assert code_of(type(built)) is code
    else:
        assert isinstance(built, errors.InternalFault)
    if isinstance(built, errors.Busy):
        assert built.retry_after_s == 1.0
