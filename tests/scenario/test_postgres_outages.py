"""PostgreSQL dies while the coordinator serves, at the worst moments."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
from builders import a_coordinator, a_core, a_vector, enrol, take_delta
from postgres_server import PostgresServer, a_postgres_server, require_postgres

from coordinator.core import Core
from letheon.errors import StorageUnavailable
from letheon.v1 import ledger_pb2

_GATE = 42  # advisory lock that every commit of a ledger row must pass


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    require_postgres()
    with a_postgres_server() as server:
        yield server


@pytest.fixture
def own_server(mortal: PostgresServer) -> PostgresServer:
    """A running server that the test may kill."""
    mortal.start()
    return mortal


def test_a_killed_server_is_survived_without_a_restart(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    url = own_server.create_database(tmp_path.name)
    with a_coordinator(tmp_path, database_url=url) as (coordinator, client):
        client.register("north")
        client.push("north", a_vector(1), update_id="u-1")
        own_server.kill()
        with pytest.raises(StorageUnavailable):
            client.push("north", a_vector(2), update_id="u-2")
        own_server.start()
        assert client.push("north", a_vector(2), update_id="u-2").version == 2
        verdict = list(client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest()))[-1].verdict
        assert verdict.holds, verdict.reason
        coordinator.leadership.check()


class Gate:
    """Holds up commits of ledger rows, as a slow disk or a far replica does."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        for statement in (
            f"CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN PERFORM pg_advisory_xact_lock({_GATE}); RETURN NULL; END'",
            "CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON entries "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gate()",
            f"SELECT pg_advisory_lock({_GATE})",
        ):
            self._connection.execute(statement)

    def open(self) -> None:
        self._connection.execute(f"SELECT pg_advisory_unlock({_GATE})")
        self._connection.close()

    def waiting(self, query: str) -> tuple[int, int]:
        """Process id and client port of the backend that waits for a lock in such a query."""
        pause, end = threading.Event(), time.monotonic() + 60
        while time.monotonic() < end:
            found = self._connection.execute(
                "SELECT pid, client_port FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database() AND query ILIKE %s",
                [query],
            ).fetchone()
            if found is not None:
                return int(found[0]), int(found[1])
            pause.wait(0.01)
        raise AssertionError(f"nobody waits in {query}")


def cut(port: int) -> None:
    """Ends this process's connection from a local port; the other side hears nothing of it."""
    [found] = [c for c in psutil.Process().net_connections() if c.laddr.port == port]
    with socket.socket(fileno=os.dup(found.fd)) as line:
        line.shutdown(socket.SHUT_RDWR)


def test_a_commit_that_ends_after_its_connection_counts_once(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    url = own_server.create_database(tmp_path.name)
    core = a_core(tmp_path, database_url=url)
    enrol(core, "north")
    gate = Gate(url)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(take_delta, core, "north", a_vector(1), update_id="u-1")
        _, port = gate.waiting("COMMIT")
        cut(port)
        with pytest.raises(StorageUnavailable):
            first.result(20)
        # Whoever looks at the head now must wait for the outcome, not guess it.
        look = pool.submit(core.live.snapshot)
        gate.waiting("%FOR UPDATE%")
        gate.open()
        assert look.result(20)[0].version == 1
    assert take_delta(core, "north", a_vector(2), update_id="u-2").version == 2
    assert take_delta(core, "north", a_vector(1), update_id="u-1").version == 1
    assert_sound(core, version=2)


@pytest.mark.parametrize("whole_server", [False, True])
def test_a_server_that_dies_in_a_commit_loses_it_and_the_resend_counts_once(
    tmp_path: Path, own_server: PostgresServer, whole_server: bool
) -> None:
    url = own_server.create_database(tmp_path.name)
    core = a_core(tmp_path, database_url=url)
    enrol(core, "north")
    take_delta(core, "north", a_vector(0), update_id="u-0")
    gate = Gate(url)
    with ThreadPoolExecutor(1) as pool:
        cut_off = pool.submit(take_delta, core, "north", a_vector(1), update_id="u-1")
        pid, _ = gate.waiting("COMMIT")
        end: Callable[[], object] = own_server.kill
        if not whole_server:
            end = lambda: own_server.execute(f"SELECT pg_terminate_backend({pid})")  # noqa: E731
        end()
        with pytest.raises(StorageUnavailable):
            cut_off.result(20)
    if whole_server:
        own_server.start()
    else:
        gate.open()
    assert take_delta(core, "north", a_vector(1), update_id="u-1").version == 2
    assert_sound(core, version=2)


def assert_sound(core: Core, *, version: int) -> None:
    *_, verdict = core.verify_ledger()
    assert verdict.holds  # type: ignore[union-attr]
    assert core.live.position.version == version
    with core.store.read() as uow:
        assert uow.federation.counters()["accepted"] == version
