"""Holding a coordinator that must not serve yet: every call but a few is told why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from letheon.errors import LetheonError
from letheon.servicekit.interception import Method, around_calls

_ALWAYS = ("/letheon.v1.Recovery/", "/grpc.health.v1.", "/grpc.reflection.")


class Hold(grpc.ServerInterceptor):
    """Answers every other call with the reason, until it is released.

    `on_release` is called once when that happens.
    """

    def __init__(self) -> None:
        self._reason: LetheonError | None = None
        self.on_release: Callable[[], None] = lambda: None

    @property
    def is_on(self) -> bool:
        """Whether calls are held."""
        return self._reason is not None

    def put_on(self, reason: LetheonError) -> None:
        """From now on calls get this error."""
        self._reason = reason

    def release(self) -> None:
        """Calls go through. Harmless if they do already."""
        held, self._reason = self._reason, None
        if held is not None:
            self.on_release()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps each method but those that are always answered."""
        method = continuation(handler_call_details)
        if handler_call_details.method.startswith(_ALWAYS):
            return method

        @contextmanager
        def unless_held(_context: grpc.ServicerContext) -> Iterator[None]:
            reason = self._reason
            if reason is not None:
                raise type(reason)(reason.message, **reason.facts)
            yield

        return around_calls(method, unless_held)
