"""Doing something around a served call, whichever of the four kinds of call it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc

from letheon.errors import LetheonError
from letheon.servicekit.error_table import code_of

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
        code = code_of(type(error))
        raise
    except BaseException:
        code = code_set(context) or (
            grpc.StatusCode.INTERNAL if context.is_active() else grpc.StatusCode.CANCELLED
        )
        raise
    finally:
        report(code, time.perf_counter() - started)
