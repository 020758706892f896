"""A slow TCP link between one client and a server that may be gone for a while."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_READ_BYTES = 256 * 1024


class ThrottledLink:
    """Forwards connections to `target` (host, port), each way at `bytes_per_s` at most."""

    def __init__(self, target: tuple[str, int], bytes_per_s: float) -> None:
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
            while data := source.recv(_READ_BYTES):
                target.sendall(data)
                setattr(self, counter, getattr(self, counter) + len(data))
                free_at = max(free_at, time.monotonic() - 0.05) + len(data) / self._bytes_per_s
                pause.wait(max(0.0, free_at - time.monotonic()))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
