"""Connections that are passed on byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import BadConfig
from letheon.servicekit.byte_relay import ByteRelay
from letheon.servicekit.server import Server


class Echo:
    """Sends back whatever it is sent, until the sender ends."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self) -> None:
        self._listener.close()


@contextmanager
def relaying(target: str | None) -> Iterator[tuple[str, int]]:
    relay = ByteRelay("127.0.0.1:0", lambda: target)
    host, _, port = relay.start().rpartition(":")
    try:
        yield host, int(port)
    finally:
        relay.stop()


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = Echo()
    yield server.address
    server.close()


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    received = bytearray()
    with socket.create_connection(address, timeout=20) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        while len(received) < len(data):
            received += connection.recv(65536)
        sender.join()
    return bytes(received)


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=1, max_size=2_000_000))
def test_every_byte_arrives_in_order_both_ways(echo: str, data: bytes) -> None:
    with relaying(echo) as address:
        assert exchange(address, data) == data


def is_closed(connection: socket.socket) -> bool:
    """An end or a reset: both tell the caller to try again."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_without_a_target_a_connection_is_closed_at_once() -> None:
    with (
        relaying(None) as address,
        socket.create_connection(address, timeout=20) as connection,
    ):
        assert is_closed(connection)


def test_a_target_that_is_down_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        gone = f"127.0.0.1:{probe.getsockname()[1]}"
    with relaying(gone) as address, socket.create_connection(address, timeout=20) as connection:
        assert is_closed(connection)


def test_stopping_cuts_what_is_open_and_frees_the_port_for_a_server(echo: str) -> None:
    relay = ByteRelay("127.0.0.1:0", lambda: echo)
    listen = relay.start()
    host, _, port = listen.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        relay.stop()
        assert is_closed(connection)
        server = Server([], listen=listen)
        assert server.start() == listen
        server.stop(0.0)


def test_a_call_goes_through_a_relay() -> None:
    server = Server([])
    with relaying(server.start()) as (host, port), grpc.insecure_channel(f"{host}:{port}") as way:
        stub = health_pb2_grpc.HealthStub(way)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    server.stop(0.0)


def test_a_taken_port_is_named(echo: str) -> None:
    with pytest.raises(BadConfig, match="cannot listen"):
        ByteRelay(echo, lambda: None).start()
