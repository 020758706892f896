"""A small HTTP CONNECT proxy on real sockets, with Basic authentication if a test wants it."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

_READ_BYTES = 64 * 1024


class ConnectProxy:
    """Listens on a free port of loopback; `login` is `user:password`, `refuse` answers 403."""

    def __init__(self, *, login: str | None = None, refuse: bool = False) -> None:
        self.asked: list[str] = []  # host:port of each CONNECT
        self.answers: list[int] = []
        self._login = login
        self._refuse = refuse
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> ConnectProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(_READ_BYTES)
                if not data:
                    return
                head += data
            lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            target = lines[0].split()[1]
            self.asked.append(target)
            status = self._status(lines[1:])
            self.answers.append(status)
            if status != 200:
                challenge = (
                    'Proxy-Authenticate: Basic realm="hospital"\r\n' if status == 407 else ""
                )
                client.sendall(
                    f"HTTP/1.1 {status} no\r\n{challenge}Content-Length: 0\r\n\r\n".encode()
                )
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as server:
                server.settimeout(None)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()

    def _status(self, headers: list[str]) -> int:
        if self._refuse:
            return 403
        if self._login is None:
            return 200
        wanted = f"Basic {base64.b64encode(self._login.encode()).decode()}"
        given = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in headers)}
        return 200 if given.get("proxy-authorization") == wanted else 407


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_READ_BYTES):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
