"""Passes connections on to another host, byte by byte: what is encrypted stays encrypted.

A process that may not answer yet listens all the same and hands every connection to the one that
does. TLS ends there, with the certificates of both ends, so the relay needs none and sees nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from letheon.errors import BadConfig

_log = logging.getLogger(__name__)

_READ_BYTES = 256 * 1024
_CONNECT_S = 5.0
_START_S = 10.0


def host_and_port(address: str, *, key: str) -> tuple[str, int]:
    """The two parts of `host:port`. Raises BadConfig naming the key."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadConfig(f"{key}: {address!r} is not host:port", key=key)
    return host.strip("[]"), int(port)


class ByteRelay:
    """Listens on `listen`; `target` answers the `host:port` of the moment, or None.

    A connection that cannot be passed on is closed: the caller tries again.
    """

    def __init__(self, listen: str, target: Callable[[], str | None]) -> None:
        self._listen, self._target = listen, target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def start(self) -> str:
        """Accepts connections; answers the bound `host:port`. Raises BadConfig if it is taken."""
        host, port = host_and_port(self._listen, key="listen")
        self._thread.start()
        try:
            bound = self._in_loop(self._serve(host, port)).result(_START_S)
        except OSError as error:
            self._end()
            raise BadConfig(f"cannot listen on {self._listen}: {error}", key="listen") from error
        _log.info("relay_listens", extra={"address": f"{host}:{bound}"})
        return f"{host}:{bound}"

    def stop(self) -> None:
        """Closes every connection and frees the port."""
        self._in_loop(self._close()).result(_START_S)
        self._end()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _in_loop(self, work: Coroutine[Any, Any, int]) -> Future[int]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, host: str, port: int) -> int:
        self._server = await asyncio.start_server(self._pass_on, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> int:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        return 0

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # asyncio always runs this as a task
            return
        self._open.add(task)
        try:
            await self._relay(reader, writer)
        except (OSError, TimeoutError) as error:
            _log.debug("relay_failed", extra={"why": str(error)})
        except asyncio.CancelledError:
            # The only one who cancels is `stop`, which waits for the end and wants no error.
            pass
        finally:
            writer.transport.abort()
            self._open.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self._target()
        if target is None:
            return
        host, port = host_and_port(target, key="target")
        async with asyncio.timeout(_CONNECT_S):
            far_reader, far_writer = await asyncio.open_connection(host, port)
        try:
            both = (_pump(reader, far_writer), _pump(far_reader, writer))
            pumps = [asyncio.ensure_future(pump) for pump in both]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            with contextlib.suppress(OSError):
                far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the sender has ended; waits while the receiver is slow, so memory stays bounded."""
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()
