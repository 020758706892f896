"""A real PostgreSQL server for tests: Debian's, on a loopback port, killed and started at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import URL

from letheon.errors import Refused
from letheon.servicekit.processes import Child

_OWNER = "postgres"
_READY_S = 120.0
_SETTINGS = {
    # What survives a kill here must survive a power cut in production.
    "fsync": "on",
    "full_page_writes": "on",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
    "dynamic_shared_memory_type": "posix",
}


def postgres_folder() -> Path | None:
    """Where initdb and postgres are, the newest version first; None if not installed."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    for program in sorted(versions, key=lambda path: float(path.parts[-3]), reverse=True):
        if program.with_name("initdb").exists():
            return program.parent
    found = shutil.which("postgres")
    if found is not None and shutil.which("initdb") is not None:
        return Path(found).parent
    return None


def require_postgres() -> None:
    """Skips the test at a desk without PostgreSQL; fails in CI."""
    if postgres_folder() is not None:
        return
    reason = "PostgreSQL is not installed (make system-deps)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class PostgresServer:
    """One server in a folder that nobody else uses, reachable from every user's processes.

    `start` and `stop` may be repeated; the port stays the same. A kill leaves what a power cut of
    the server leaves: the next start recovers.
    """

    def __init__(self, directory: Path) -> None:
        programs = postgres_folder()
        if programs is None:
            raise FileNotFoundError("PostgreSQL is not installed")
        self._programs = programs
        self._data = directory / "pgdata"
        self.port = _free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self._as_owner: list[str] = []
        if os.geteuid() == 0:
            # The server refuses to run as root. The signal must be asked for again: a change
            # of user takes the one of the parent's death away.
            ids = (f"--reuid={_OWNER}", f"--regid={_OWNER}")
            self._as_owner = ["setpriv", *ids, "--init-groups", "--pdeathsig", "SIGKILL"]
            self._data.mkdir()
            shutil.chown(self._data, _OWNER, _OWNER)
        self._initialise()
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        settings.append(f"--port={self.port}")
        self._child = Child(
            [*self._as_owner, programs / "postgres", "-D", self._data, *settings],
            log_path=directory / "postgres.log",
            name="postgres",
        )

    def start(self) -> None:
        """Starts the server and waits until it answers. Harmless while it runs."""
        if self.pids():
            return
        self._child.start()
        pause, end = threading.Event(), time.monotonic() + _READY_S
        while True:
            try:
                self._connect().close()
            except psycopg.OperationalError:
                if self._child.poll() is not None or time.monotonic() > end:
                    raise AssertionError(self._child.log_tail()) from None
                pause.wait(0.02)
            else:
                return

    def stop(self) -> None:
        """Ends the server in order, closing every connection. Harmless when it does not run."""
        if self.pids():
            os.kill(self._child.pid, signal.SIGINT)
            self._child.wait(_READY_S)

    def kill(self) -> None:
        """kill -9 of the server; returns when all of its processes are gone."""
        pids = self.pids()
        if not pids:
            return
        processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        self._child.kill()
        _, left = psutil.wait_procs(processes[1:], timeout=_READY_S)
        assert not left, f"processes of PostgreSQL still run: {left}"

    def restart(self) -> None:
        """Stops and starts, on the same port."""
        self.stop()
        self.start()

    def pids(self) -> list[int]:
        """The server's process, then its children; empty when it does not run."""
        try:
            if self._child.poll() is not None:
                return []
            server = psutil.Process(self._child.pid)
            return [server.pid, *(child.pid for child in server.children(recursive=True))]
        except (psutil.NoSuchProcess, Refused):
            return []

    def create_database(self, name: str) -> str:
        """A new empty database; answers its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return URL.create(
            "postgresql+psycopg",
            username=_OWNER,
            host="127.0.0.1",
            port=self.port,
            database=database,
        ).render_as_string()

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Runs one statement outside a transaction; answers its rows, if it has any."""
        with self._connect() as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description is not None else []

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=_OWNER,
            dbname="postgres",
            autocommit=True,
            connect_timeout=10,
        )

    def _initialise(self) -> None:
        subprocess.run(
            [
                *self._as_owner,
                self._programs / "initdb",
                f"--pgdata={self._data}",
                f"--username={_OWNER}",
                "--auth=trust",
                "--encoding=UTF8",
                # Sorts text as people do, unlike SQLite: a query that relies on bytes shows.
                "--locale=C.UTF-8",
                "--locale-provider=icu",
                "--icu-locale=en-US",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            timeout=60,
            cwd="/",
        )


@contextmanager
def a_postgres_server() -> Iterator[PostgresServer]:
    """A running server in a folder of its own, gone afterwards."""
    # Not pytest's folder: only its owner may enter that one, and the server is somebody else.
    with tempfile.TemporaryDirectory(prefix="letheon-postgres-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = PostgresServer(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
