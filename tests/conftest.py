"""Puts this folder on the import path, so that tests can share `builders`; databases."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer, a_postgres_server, require_postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The one PostgreSQL server of the session; do not stop it."""
    require_postgres()
    with a_postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """A fresh, empty PostgreSQL database."""
    return postgres.create_database(f"test_{next(_numbers)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def chosen_database(request: pytest.FixtureRequest) -> str | None:
    """A PostgreSQL database if LETHEON_TEST_POSTGRES=1, else None: SQLite in data_dir."""
    if os.environ.get("LETHEON_TEST_POSTGRES") != "1":
        return None
    return str(request.getfixturevalue("postgres_url"))
