"""A slow TCP link between one client and a server that may be gone for a while."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

_READ_BYTES = 256 * 1024


class ThrottledLink:
    """Forwards connections to `target` (host, port), each way at `bytes_per_s` at most.

    Of the pieces of `piece_bytes`, a share of `broken` is lost and its connection with it.
    """

    def __init__(
        self,
        target: tuple[str, int],
        bytes_per_s: float,
        *,
        piece_bytes: int = _READ_BYTES,
        broken: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.breaks = 0
        self._piece_bytes = piece_bytes
        self._broken = broken
        self._random = random.Random(seed)
        self.to_server = 0  # payload and framing, in bytes
        self.to_client = 0
        self._target = target
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        # Closing alone does not wake a thread that sits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._spawn(self._forward, client, server, "to_server")
            self._spawn(self._forward, server, client, "to_client")

    def _forward(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        free_at = time.monotonic()
        pause = threading.Event()
        with contextlib.suppress(OSError):
            while data := source.recv(self._piece_bytes):
                # Short messages are not pieces: what is counted is the payload's way.
                if len(data) * 2 > self._piece_bytes and self._random.random() < self._broken:
                    self.breaks += 1
                    break
                target.sendall(data)
                setattr(self, counter, getattr(self, counter) + len(data))
                free_at = max(free_at, time.monotonic() - 0.05) + len(data) / self._bytes_per_s
                pause.wait(max(0.0, free_at - time.monotonic()))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
