"""What a coordinator does while another one leads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_coordinator import free_port
from secure_coordinator import a_secure_coordinator

from coordinator.config import CoordinatorConfig
from coordinator.standby import DATABASE, REDIS, Standby
from coordinator.start_wiring import a_health_port
from letheon.errors import BadConfig
from letheon.servicekit.caller import Role
from letheon.servicekit.config import examine_text
from letheon.servicekit.health_port import HealthPort
from letheon.servicekit.route import TlsFiles
from letheon.v1 import (
    federation_pb2,
    federation_pb2_grpc,
)


@contextmanager
def a_listener(name: bytes, port: int = 0) -> Iterator[int]:
    """Answers each connection with its name."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(name)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def answer_at(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        return connection.recv(100)


def a_ready_port() -> HealthPort:
    health = a_health_port(None)
    health.note(REDIS, holds=True)
    health.note(DATABASE, holds=True)
    return health


def test_it_follows_the_holder_of_the_lease_and_is_ready_only_while_it_relays() -> None:
    port, health = free_port(), a_ready_port()
    standby = Standby([f"127.0.0.1:{port}"], health, relays=True)
    with a_listener(b"first") as first, a_listener(b"second") as second:
        standby.waits_for(f"127.0.0.1:{first}")
        assert health.is_ready
        assert answer_at(port) == b"first"
        standby.waits_for(f"127.0.0.1:{second}")
        assert answer_at(port) == b"second"
        standby.end()
        assert not health.is_ready
        with pytest.raises(ConnectionRefusedError):
            answer_at(port)


def test_without_a_relay_it_is_not_ready_and_listens_nowhere() -> None:
    port, health = free_port(), a_ready_port()
    standby = Standby([f"127.0.0.1:{port}"], health, relays=False)
    standby.waits_for("the other one")
    assert not health.is_ready
    with pytest.raises(ConnectionRefusedError):
        answer_at(port)
    standby.end()


def test_a_second_door_leads_to_the_same_door_of_the_leader() -> None:
    # Two addresses of loopback stand for two hosts with the same ports.
    main, door = free_port(), free_port()
    with a_listener(b"main") as leader, a_listener(b"door", door):
        standby = Standby(
            [f"127.0.0.1:{main}", f"127.0.0.2:{door}"], a_health_port(None), relays=True
        )
        standby.waits_for(f"127.0.0.1:{leader}")
        assert answer_at(main) == b"main"
        with socket.create_connection(("127.0.0.2", door), timeout=20) as connection:
            assert connection.recv(100) == b"door"
        standby.end()


def test_a_port_that_is_taken_ends_the_wait_with_its_name() -> None:
    with a_listener(b"") as taken:
        standby = Standby([f"127.0.0.1:{taken}"], a_health_port(None), relays=True)
        with pytest.raises(BadConfig, match=str(taken)):
            standby.waits_for("127.0.0.1:1")


def test_mutual_tls_goes_through_a_standby_and_ends_at_the_leader(tmp_path: Path) -> None:
    port = free_port()
    with a_secure_coordinator(tmp_path) as secured:
        standby = Standby([f"127.0.0.1:{port}"], a_health_port(None), relays=True)
        standby.waits_for(secured.address)
        folder = secured.identity(Role.OPERATOR, "ada")
        files = TlsFiles(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
        channel = secured.channel_with(files, f"127.0.0.1:{port}")
        stub = federation_pb2_grpc.FederationStub(channel)
        status = stub.GetFederation(federation_pb2.GetFederationRequest(), timeout=20)
        assert status.head_version == 0
        standby.end()


@pytest.mark.parametrize("instance", ["", "coordinator-0", ":7300", "host:port"])
def test_a_relay_needs_an_instance_that_is_an_address(instance: str) -> None:
    text = (
        'data_dir = "/x"\nredis_url = "redis://r"\n[standby]\nrelay = true\n'
        f'[database]\ninstance = "{instance}"\n'
    )
    made, broken, _ = examine_text(text, CoordinatorConfig, {})
    assert made is None
    assert "database.instance is not host:port" in str(broken[0])
