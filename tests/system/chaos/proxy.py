"""A small TCP proxy that misbehaves when told to.

Inside one TCP connection bytes arrive once and in order, whatever the network does. What can be
duplicated or reordered is therefore whole connections: a middlebox, or a sender that never saw
its answer, sends what an earlier connection carried once more on a new one, and the old one may
come after newer ones. `replay` does exactly that: everything a client sent on some connection
since its first byte goes to the server again, literally, and the answers are thrown away. A
prefix of a client's bytes is itself something a client could have sent before it was cut off, so
recordings may be bounded and a connection need not have ended to be recorded. Delaying one
connection while others pass (`slow`, `hold`) reorders what travels on different connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

_READ_BYTES = 64 * 1024
_RECORDED_BYTES = 8 << 20
_RECORDINGS = 12
_REPLAY_PAUSE_S = 0.002  # between two pieces, so that the server's window can grow
_REPLAY_S = 10.0

Result = TypeVar("Result")


class Mode(StrEnum):
    """What the proxy does with bytes."""

    PASS = "pass"
    REFUSE = "refuse"  # connections end at once
    HOLD = "hold"  # a black hole: connections stay, nothing moves until it passes again
    SLOW = "slow"


@dataclass
class Recording:
    """What one client sent, from its first byte, at most `_RECORDED_BYTES`."""

    pieces: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    is_whole: bool = True

    def add(self, piece: bytes) -> None:
        """Keeps the piece if there is room and no piece before it was left out."""
        if self.is_whole and self.size_bytes + len(piece) <= _RECORDED_BYTES:
            self.pieces.append(piece)
            self.size_bytes += len(piece)
        else:
            self.is_whole = False


class Proxies:
    """The thread that runs every proxy of a federation."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, port: int, target: int) -> Proxy:
        """A proxy on loopback from `port` to `target`."""
        proxy = Proxy(self, port, target)
        self.run(proxy.listen())
        return proxy

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Does the work on the loop and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        """Ends every connection and the thread."""

        async def cancel() -> None:
            mine = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not mine]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class Proxy:
    """One listening port."""

    def __init__(self, proxies: Proxies, port: int, target: int) -> None:
        self.port = port
        self._proxies, self._target = proxies, target
        self._mode, self._bytes_per_s, self._latency_s = Mode.PASS, 0.0, 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._recordings: deque[Recording] = deque(maxlen=_RECORDINGS)
        self._moves = asyncio.Event()
        self._replays: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Begins."""
        self._moves.set()
        await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def be(self, mode: Mode, *, bytes_per_s: float = 0.0, latency_s: float = 0.0) -> None:
        """Changes what happens to bytes from now on."""

        async def change() -> None:
            self._mode, self._bytes_per_s, self._latency_s = mode, bytes_per_s, latency_s
            if mode is Mode.HOLD:
                self._moves.clear()
            else:
                self._moves.set()
            if mode is Mode.REFUSE:
                self._abort()

        self._proxies.run(change())

    def cut(self) -> int:
        """Ends every connection now; how many."""

        async def end() -> int:
            return self._abort()

        return self._proxies.run(end())

    def replay(self, age: int) -> int:
        """Sends a recording again, `age` connections old (modulo what there is); its bytes."""

        async def begin() -> int:
            known = [one for one in self._recordings if one.pieces]
            if not known:
                return 0
            chosen = known[-1 - age % len(known)]
            task = asyncio.ensure_future(self._send_again(list(chosen.pieces)))
            self._replays.add(task)
            task.add_done_callback(self._replays.discard)
            return chosen.size_bytes

        return self._proxies.run(begin())

    def _abort(self) -> int:
        ended = len(self._writers)
        for writer in self._writers:
            writer.transport.abort()
        return ended

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.REFUSE:
            writer.transport.abort()
            return
        recording = Recording()
        self._recordings.append(recording)
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_writer}
        try:
            await asyncio.gather(
                self._pump(reader, to_writer, recording), self._pump(to_reader, writer, None)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers -= {writer, to_writer}
            writer.transport.abort()
            to_writer.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        recording: Recording | None,
    ) -> None:
        while piece := await source.read(_READ_BYTES):
            await self._moves.wait()
            if self._mode is Mode.SLOW:
                await asyncio.sleep(self._latency_s + len(piece) / self._bytes_per_s)
            if recording is not None:
                recording.add(piece)
            sink.write(piece)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

    async def _send_again(self, pieces: list[bytes]) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_REPLAY_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    answers = asyncio.ensure_future(_throw_away(reader))
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(_REPLAY_PAUSE_S)
                    # Long enough for the last request to be served.
                    await asyncio.wait({answers}, timeout=1.0)
                    answers.cancel()
                finally:
                    writer.transport.abort()


async def _throw_away(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(_READ_BYTES):
            pass
