"""Databases that are empty, old, too new, somebody else's, or damaged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from builders import a_site
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.types import LargeBinary, String

from coordinator.adapters import migrations
from coordinator.adapters.sql import SqlStore
from coordinator.adapters.tables import metadata
from letheon.errors import BadConfig, DatabaseCorrupt

PREVIOUS, NEWEST = ("0001", "0002", "0003", "0004"), "0007"


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine: Engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def differences(url: str) -> list[object]:
    with connected(url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def at_revision(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    with connected(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def reflected(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def a_row(table: Table) -> dict[str, object]:
    """A value in every column; a key elsewhere is the same word or number."""
    row: dict[str, object] = {}
    for column in table.columns:
        if isinstance(column.type, LargeBinary):
            row[column.name] = b"\x00\xff"
        elif isinstance(column.type, String):
            row[column.name] = "x"
        else:
            row[column.name] = column.type.python_type(1)
    return row


def test_an_empty_database_gets_the_tables_of_the_code(database_url: str) -> None:
    SqlStore(database_url).close()
    assert differences(database_url) == []


@pytest.mark.parametrize("revision", PREVIOUS)
def test_every_row_of_a_previous_release_survives(database_url: str, revision: str) -> None:
    at_revision(database_url, revision)
    with connected(database_url) as connection:
        before = {}
        for table in reflected(connection):
            connection.execute(insert(table).values(a_row(table)))
            before[table.name] = dict(connection.execute(select(table)).one()._mapping)
    assert len(before) >= 17
    SqlStore(database_url).close()
    with connected(database_url) as connection:
        after = {table.name: table for table in reflected(connection)}
        for name, row in before.items():
            found = [dict(each._mapping) for each in connection.execute(select(after[name]))]
            assert any(each.items() >= row.items() for each in found)
        without = connection.execute(text("SELECT without FROM exports")).scalar_one()
        assert without == ("[]" if revision == "0001" else "x")
        query = text("SELECT level_admitted, caveats, uncertifiable FROM erasures")
        since = ("L1", "[]", "") if revision in ("0001", "0002") else ("x", "x", "x")
        assert tuple(connection.execute(query).one()) == since
        query = text("SELECT records, exclusion_counter, exchange FROM erasures")
        since = ("x", 1, "x") if revision >= "0004" else ("", 0, None)
        assert tuple(connection.execute(query).one()) == since
    assert differences(database_url) == []


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    failures: list[Exception] = []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait(60)
        try:
            SqlStore(database_url).close()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    with connected(database_url) as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
        assert list(found) == [NEWEST]
        assert connection.execute(text("SELECT count(*) FROM leadership")).scalar_one() == 1


def test_a_database_of_a_newer_release_is_refused_and_left_alone(database_url: str) -> None:
    SqlStore(database_url).close()
    with connected(database_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(BadConfig, match=rf"0999.*{NEWEST}.*install the newer Letheon"):
        SqlStore(database_url)


def test_a_database_of_another_program_is_refused_and_left_alone(database_url: str) -> None:
    with connected(database_url) as connection:
        connection.execute(text("CREATE TABLE patients (name TEXT)"))
    with pytest.raises(BadConfig, match=r"patients.*database of its own"):
        SqlStore(database_url)
    with connected(database_url) as connection:
        assert [table.name for table in reflected(connection)] == ["patients"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"no database at all, but text" * 100)
    with pytest.raises(DatabaseCorrupt, match=r"newest backup.*letheon restore"):
        SqlStore(f"sqlite:///{tmp_path / 'x.sqlite'}")


def a_damaged_file(path: Path) -> None:
    """A database with sites, of which one inner page is overwritten."""
    store = SqlStore(f"sqlite:///{path}")
    with store.write() as uow:
        for number in range(400):
            uow.sites.add(a_site(f"site-{number}", display_name="x" * 150))
        uow.commit()
    store.close()
    with connected(f"sqlite:///{path}") as connection:
        page = connection.execute(
            text("SELECT rootpage FROM sqlite_master WHERE name = 'sites'")
        ).scalar_one()
        size = connection.execute(text("PRAGMA page_size")).scalar_one()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def test_a_damaged_file_is_refused_at_the_start(tmp_path: Path) -> None:
    a_damaged_file(tmp_path / "x.sqlite")
    with pytest.raises(DatabaseCorrupt, match=r"damaged.*newest backup.*letheon restore"):
        SqlStore(f"sqlite:///{tmp_path / 'x.sqlite'}")


def test_a_file_damaged_while_it_is_read_says_so(tmp_path: Path) -> None:
    a_damaged_file(tmp_path / "damaged.sqlite")
    store = SqlStore(f"sqlite:///{tmp_path / 'x.sqlite'}")
    store.close()
    for leftover in tmp_path.glob("x.sqlite-*"):
        leftover.unlink()
    (tmp_path / "damaged.sqlite").replace(tmp_path / "x.sqlite")
    with pytest.raises(DatabaseCorrupt, match="damaged"), store.read() as uow:
        uow.sites.all()
    store.close()
