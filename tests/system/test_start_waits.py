"""A start without PostgreSQL or Redis waits and says so; probes tell; SIGTERM ends the wait."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import a_federation
from postgres_server import a_postgres_server, require_postgres
from running_coordinator import Running, free_port
from sqlalchemy import create_engine, text

from letheon.servicekit.processes import Child

pytestmark = pytest.mark.system

LEASE_S = 1.5


@contextmanager
def running(directory: Path, url: str, **top: str | float) -> Iterator[Running]:
    a_federation(directory / "federation")
    process = Running(directory, url, "a", LEASE_S, top=top)
    try:
        yield process
    finally:
        process.end()


def test_postgresql_is_waited_for_at_the_start_and_missed_while_it_is_away(tmp_path: Path) -> None:
    require_postgres()
    with a_postgres_server() as server:
        url = server.create_database("waited_for")
        server.stop()
        with running(tmp_path, url) as coordinator:
            coordinator.until("waiting_for_database")
            assert coordinator.is_well("liveness")
            assert not coordinator.is_well("readiness")
            server.start()
            coordinator.until_well("readiness")
            assert coordinator.log().count("waiting_for_database") == 1
            server.stop()
            coordinator.until_well("database", well=False)
            assert not coordinator.is_well("readiness")
            assert coordinator.is_well("liveness")
            server.start()
            coordinator.until_well("readiness")
            assert coordinator.stop() == 0


def test_sigterm_ends_the_wait_for_a_database(tmp_path: Path) -> None:
    nobody = f"postgresql+psycopg://letheon@127.0.0.1:{free_port()}/letheon"
    with running(tmp_path, nobody) as coordinator:
        coordinator.until("waiting_for_database")
        assert coordinator.stop() == 0
        assert "Traceback" not in coordinator.log()


def a_redis(port: int, directory: Path) -> Child:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (make system-deps)")
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
    return Child(["redis-server", *settings], log_path=directory / "redis.log").start()


def test_redis_is_waited_for_once_and_its_outage_later_stops_nobody(tmp_path: Path) -> None:
    port = free_port()
    url = f"sqlite:///{tmp_path / 'test.sqlite'}"
    redis = {"redis_url": f"redis://127.0.0.1:{port}/0", "redis_wait_seconds": 600.0}
    with running(tmp_path, url, **redis) as coordinator:
        coordinator.until("waiting_for_redis")
        coordinator.until_well("serving")
        assert not coordinator.is_well("readiness")
        server = a_redis(port, tmp_path)
        coordinator.until_well("readiness")
        assert coordinator.log().count("waiting_for_redis") == 1
        server.kill()
        coordinator.until('"chore": "queue_gauges"')
        assert coordinator.is_well("readiness")


def test_a_calibrator_is_ready_once_it_reaches_coordinator_and_redis(tmp_path: Path) -> None:
    port, health = free_port(), f"127.0.0.1:{free_port()}"
    with running(tmp_path, f"sqlite:///{tmp_path / 'test.sqlite'}") as coordinator:
        coordinator.until_serving()
        config = tmp_path / "calibrator.toml"
        config.write_text(
            f'coordinator = "{coordinator.address.read_text()}"\nname = "calibrator-1"\n'
            f'redis_url = "redis://127.0.0.1:{port}/0"\nbackoff_cap_seconds = 0.5\n'
            f'state_dir = "{tmp_path / "calibrator"}"\nhealth_listen = "{health}"\n'
            "block_seconds = 0.2\n"
        )
        calibrator = Child(
            [sys.executable, "-m", "calibrator", "--config", config],
            log_path=tmp_path / "calibrator.log",
        ).start()
        try:
            coordinator.health = health  # the same questions, asked of the calibrator
            coordinator.until_well("coordinator")
            assert coordinator.is_well("liveness")
            assert not coordinator.is_well("readiness")
            server = a_redis(port, tmp_path)
            coordinator.until_well("readiness")
            server.kill()
            coordinator.until_well("readiness", well=False)
            assert calibrator.stop(20.0) == 0
        finally:
            calibrator.kill()


def ended(config: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", *command, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_migrate_makes_the_tables_and_a_newer_database_ends_every_start_with_78(
    database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "coordinator.toml"
    config.write_text(
        f'data_dir = "{tmp_path / "data"}"\nredis_url = "redis://127.0.0.1:1/0"\n'
        f'[database]\nurl = "{database_url}"\n'
    )
    code, said = ended(config, "migrate")
    assert code == 0, said
    engine = create_engine(database_url)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT token FROM leadership")).all() == [(0,)]
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    for command in ("migrate", "serve"):
        code, said = ended(config, command)
        assert code == 78
        assert "the database has revision 9999" in said.splitlines()[-1]
        assert "install the newer Letheon" in said.splitlines()[-1]
