"""Where the coordinators of a run keep their rows: a file each, or one PostgreSQL for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .world import Database

if TYPE_CHECKING:
    from tests.postgres_server import PostgresServer


@dataclass(frozen=True)
class SqliteFile:
    """No server and nothing to kill."""

    url: str = ""

    def kill(self) -> None:
        """There is no process."""

    def start(self) -> None:
        """There is no process."""


@dataclass(frozen=True)
class PostgresDatabase:
    """One database of a server."""

    server: PostgresServer
    url: str

    def kill(self) -> None:
        """kill -9 of the whole server."""
        self.server.kill()

    def start(self) -> None:
        """Starts the server again."""
        self.server.start()


class Databases:
    """Gives each federation its own."""

    def __init__(self, server: PostgresServer | None) -> None:
        self._server = server

    @property
    def is_postgres(self) -> bool:
        """Whether there is a server that can be killed."""
        return self._server is not None

    def make(self, federation: int) -> Database:
        """An empty database."""
        if self._server is None:
            return SqliteFile()
        name = f"chaos_{federation}"
        self._server.start()
        self._server.create_database(name)
        return PostgresDatabase(self._server, self._server.url(name))


@contextmanager
def databases(folder: Path, *, postgres: bool) -> Iterator[Databases]:
    """SQLite files, or a PostgreSQL server for as long as the run."""
    if not postgres:
        yield Databases(None)
        return
    from tests.postgres_server import PostgresServer

    server = PostgresServer(folder / "postgres")
    server.start()
    try:
        yield Databases(server)
    finally:
        server.stop()
