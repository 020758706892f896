"""The schedule is a function of the seed, and the proxy does what its modes say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from .faults import Point, known_points, schedule
from .proxy import Mode, Proxies, Proxy

POINTS = (Point("coordinator", "a.stored"), Point("calibrator", "b.done"))


def test_the_same_seed_gives_the_same_faults() -> None:
    first = schedule(7, 2, 25, POINTS, postgres=False)
    assert first == schedule(7, 2, 25, POINTS, postgres=False)
    assert first != schedule(8, 2, 25, POINTS, postgres=False)


def test_a_disk_is_full_only_where_something_was_written() -> None:
    drawn = [f for n in range(20) for f in schedule(n, 0, 25, POINTS, postgres=False)[1]]
    assert {f.point for f in drawn if f.variant == "full"} == {POINTS[0]}


def test_the_points_are_those_of_the_sources() -> None:
    assert all(point.package and "." in point.name for point in known_points())


class Server:
    """Takes connections and hands over what each of them sent, once it ended."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[bytes] = SimpleQueue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        told = b""
        with connection:
            try:
                while piece := connection.recv(1024):
                    told += piece
            except ConnectionError:
                pass  # cut: what came before it counts
            self.heard.put(told)  # before it is closed: who sends waits for that

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def between() -> Iterator[tuple[Proxy, Server]]:
    server, proxies = Server(), Proxies()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield proxies.open(port, server.port), server
    proxies.close()
    server.close()


def send(proxy: Proxy, content: bytes) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        client.recv(1)  # until the server has heard it all


def test_a_recording_is_sent_again_literally(between: tuple[Proxy, Server]) -> None:
    proxy, server = between
    send(proxy, b"first")
    send(proxy, b"second")
    assert [server.heard.get(timeout=60) for _ in range(2)] == [b"first", b"second"]
    assert proxy.replay(1) == len(b"first")
    assert server.heard.get(timeout=60) == b"first"  # an old one after a newer one


def test_a_proxy_that_refuses_ends_connections_and_lets_them_in_again(
    between: tuple[Proxy, Server],
) -> None:
    proxy, server = between
    proxy.be(Mode.REFUSE)
    with pytest.raises(OSError, match=r"reset|connected|pipe"):
        send(proxy, b"lost")
    proxy.be(Mode.PASS)
    send(proxy, b"through")
    assert server.heard.get(timeout=60) == b"through"


def test_what_is_held_arrives_when_the_proxy_passes_again(between: tuple[Proxy, Server]) -> None:
    proxy, server = between
    proxy.be(Mode.HOLD)
    sender = threading.Thread(target=send, args=(proxy, b"late"))
    sender.start()
    assert server.heard.empty()
    proxy.be(Mode.PASS)
    assert server.heard.get(timeout=60) == b"late"
    sender.join(5)
