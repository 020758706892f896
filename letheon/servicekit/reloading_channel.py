"""A channel that is opened anew when the files of its TLS were replaced.

gRPC has no such thing on the client's side: credentials are read once. Stubs keep what they call,
so it is this channel that they are made of, and it chooses the connection at every call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import grpc

from letheon.errors import BadConfig

_log = logging.getLogger(__name__)
Stamps = tuple[object, ...]


class ReloadingChannel(grpc.Channel):
    """Delegates each call to the channel of the newest files.

    The former channel stays open for the calls that began on it; it is closed with the next
    change, when a call that still lasts ends with CANCELLED and is repeated or resumed.
    """

    def __init__(self, opened: Callable[[], grpc.Channel], stamps: Callable[[], Stamps]) -> None:
        """`opened` raises BadConfig for files that cannot be used; at first that is raised."""
        self._opened, self._stamps = opened, stamps
        self._lock = threading.Lock()
        self._seen = stamps()
        self._channel = opened()
        self._former: grpc.Channel | None = None

    def current(self) -> grpc.Channel:
        """The channel of the newest files that can be used."""
        with self._lock:
            seen = self._stamps()
            if seen != self._seen:
                self._seen = seen
                try:
                    opened = self._opened()
                except BadConfig as error:
                    # In the middle of a change the files may not fit yet: the next look is soon.
                    _log.warning("certificates_not_taken", extra={"why": error.message})
                else:
                    if self._former is not None:
                        self._former.close()
                    self._former, self._channel = self._channel, opened
                    _log.info("certificates_read")
            return self._channel

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As of any channel."""
        return _Callable(lambda: self.current().unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As of any channel."""
        return _Callable(lambda: self.current().unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As of any channel."""
        return _Callable(lambda: self.current().stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As of any channel."""
        return _Callable(lambda: self.current().stream_stream(method, *args, **kwargs))

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False
    ) -> None:
        """Of the channel at present."""
        self.current().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Of the channel at present."""
        self.current().unsubscribe(callback)

    def close(self) -> None:
        """Closes both."""
        with self._lock:
            for channel in (self._former, self._channel):
                if channel is not None:
                    channel.close()

    def __enter__(self) -> ReloadingChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Callable:
    """A multi-callable that looks for its channel at every call."""

    def __init__(self, made: Callable[[], Any]) -> None:
        self._made = made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return self._made()(*args, **kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return self._made().with_call(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return self._made().future(*args, **kwargs)
