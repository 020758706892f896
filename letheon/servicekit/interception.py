"""Doing something around a served call, whichever of the four kinds of call it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc

from letheon.errors import LetheonError, MalformedRequest, Unavailable
from letheon.servicekit.caller import Caller, calling
from letheon.servicekit.error_table import code_of
from letheon.servicekit.slow_calls import SlowCalls, Waiting, size_of

Around = Callable[[grpc.ServicerContext], AbstractContextManager[None]]
Message: TypeAlias = Any  # a protobuf message, or an iterator of them
if TYPE_CHECKING:
    Method: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:  # generic in the type stubs only
    Method = grpc.RpcMethodHandler


def short_name(method: str) -> str:
    """`/letheon.v1.Training/PushDelta` is `PushDelta`."""
    return method.rpartition("/")[2]


def around_calls(method: Method | None, around: Around) -> Method | None:
    """The same method with `around(context)` entered before and left after each call.

    For a streamed response it is left when the last message was taken. A method that gRPC does
    not know (None) and a non-blocking one (the Watch of the health service, which has another
    signature) are returned as they are.
    """
    if method is None:
        return None
    behaviour = (
        method.unary_unary or method.unary_stream or method.stream_unary or method.stream_stream
    )
    if behaviour is None or getattr(behaviour, "experimental_non_blocking", False):
        return method

    def one(request: Message, context: grpc.ServicerContext) -> Message:
        with around(context):
            return behaviour(request, context)

    def many(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        with around(context):
            yield from behaviour(request, context)

    wrapped: Method = _maker(method)(
        many if method.response_streaming else one,
        request_deserializer=method.request_deserializer,
        response_serializer=method.response_serializer,
    )
    return wrapped


def around_requests(
    method: Method | None,
    enter: Callable[[grpc.ServicerContext], tuple[Caller, Callable[[Message], Caller]]],
    slow: SlowCalls,
    cut: Callable[[Caller], LetheonError],
) -> Method | None:
    """The same method, its caller known while it runs.

    `enter` looks at the context before a message is read, and answers who calls, and what gets the
    first message (None of an empty stream) to say so with what it names. Either may raise: the
    method is not run then. A call that `slow` has cut is told to `cut` and ends with its error.
    What `around_calls` leaves as it is stays here, too.

    To gRPC every method becomes one whose requests are streamed: of others it would hold a worker
    until the one request has come, before anybody can look at who sends none.
    """
    if method is None:
        return None
    behaviour = (
        method.unary_unary or method.unary_stream or method.stream_unary or method.stream_stream
    )
    if behaviour is None or getattr(behaviour, "experimental_non_blocking", False):
        return method

    def begun(
        requests: Iterator[Message], context: grpc.ServicerContext, waiting: Waiting
    ) -> tuple[Caller, Message]:
        known, admit = enter(context)
        try:
            with waiting.message(in_flight=0):
                first = next(requests, None)
        except grpc.RpcError as error:
            if waiting.was_cut:
                raise cut(known) from error
            raise Unavailable("the call was cut before its first message") from error
        caller = admit(first)
        if not method.request_streaming:
            if first is None:
                raise MalformedRequest("the call carries no request")
            return caller, first
        rest = _watched(requests, waiting, lambda: cut(caller))
        return caller, rest if first is None else chain((first,), rest)

    def one(requests: Iterator[Message], context: grpc.ServicerContext) -> Message:
        with slow.watch(context) as waiting:
            caller, whole = begun(requests, context, waiting)
            with calling(caller):
                return behaviour(whole, context)

    def many(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        with slow.watch(context) as waiting:
            caller, whole = begun(requests, context, waiting)
            with calling(caller):
                for answer in behaviour(whole, context):
                    with waiting.message():
                        yield answer
                    waiting.moved(size_of(answer))

    make = (
        grpc.stream_stream_rpc_method_handler
        if method.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    made: Method = make(
        many if method.response_streaming else one,
        request_deserializer=method.request_deserializer,
        response_serializer=method.response_serializer,
    )
    return made


def _watched(
    messages: Iterator[Message], waiting: Waiting, cut: Callable[[], LetheonError]
) -> Iterator[Message]:
    while True:
        try:
            with waiting.message():
                message = next(messages, None)
        except grpc.RpcError as error:
            if waiting.was_cut:
                raise cut() from error
            raise
        if message is None:
            return
        waiting.moved(size_of(message))
        yield message


def _maker(method: Method) -> Callable[..., Method]:
    if method.request_streaming and method.response_streaming:
        return grpc.stream_stream_rpc_method_handler
    if method.request_streaming:
        return grpc.stream_unary_rpc_method_handler
    if method.response_streaming:
        return grpc.unary_stream_rpc_method_handler
    return grpc.unary_unary_rpc_method_handler


def code_set(context: grpc.ServicerContext) -> grpc.StatusCode | None:
    """The status code that the call was given so far (the type stubs do not know `code`)."""
    code: grpc.StatusCode | None = cast(Any, context).code()
    return code


@contextmanager
def watch(
    context: grpc.ServicerContext, report: Callable[[grpc.StatusCode, float], None]
) -> Iterator[None]:
    """Reports the status code and the seconds of a call when it ends, however it ends."""
    started = time.perf_counter()
    code = grpc.StatusCode.OK
    try:
        yield
        code = code_set(context) or grpc.StatusCode.OK
    except GeneratorExit:
        code = grpc.StatusCode.CANCELLED
        raise
    except LetheonError as error:
        # To a caller that has gone away no answer is given: it is no failure of this service.
        code = code_of(type(error)) if context.is_active() else grpc.StatusCode.CANCELLED
        raise
    except BaseException:
        code = code_set(context) or (
            grpc.StatusCode.INTERNAL if context.is_active() else grpc.StatusCode.CANCELLED
        )
        raise
    finally:
        report(code, time.perf_counter() - started)
