"""Reading the chunks of uploads without the copies that protobuf makes."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from letheon.servicekit.chunks import parse_push
from letheon.servicekit.interception import Method
from letheon.v1.training_pb2 import PushDeltaResponse

_METHOD = "/letheon.v1.Training/PushDelta"


class RawUploads(grpc.ServerInterceptor):
    """Gives PushDelta what `parse_push` makes of a message."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """The same method with another deserializer; other methods as they are."""
        method = continuation(handler_call_details)
        if handler_call_details.method != _METHOD or method is None or not method.stream_unary:
            return method
        return grpc.stream_unary_rpc_method_handler(
            method.stream_unary,
            request_deserializer=parse_push,
            response_serializer=PushDeltaResponse.SerializeToString,
        )
