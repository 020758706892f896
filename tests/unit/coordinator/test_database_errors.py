"""What a database refuses, in words that say who can do something about it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from builders import a_site
from sqlalchemy import Connection, text

from coordinator.adapters.sql import SqlStore, SqlUnitOfWork
from letheon.errors import (
    DatabaseBusy,
    DatabaseCorrupt,
    DiskFull,
    LetheonError,
    MalformedRequest,
    StorageUnavailable,
)


def connection_of(uow: SqlUnitOfWork) -> Connection:
    return uow._connection


def test_a_full_sqlite_file_says_so_and_loses_nothing(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'x.sqlite'}")
    with store.write() as uow:
        uow.sites.add(a_site("kept"))
        uow.commit()

    def fill() -> None:
        with store.write() as uow:
            connection_of(uow).execute(text("PRAGMA max_page_count = 1"))
            for number in range(1000):
                uow.sites.add(a_site(f"site-{number}", display_name="x" * 200))
            uow.commit()

    with pytest.raises(DiskFull) as caught:
        fill()
    assert caught.value.retry_after_s == 60
    with store.write() as uow:
        connection_of(uow).execute(text("PRAGMA max_page_count = 1000000"))
        assert [site.id for site in uow.sites.all()] == ["kept"]
        uow.sites.add(a_site("later"))
        uow.commit()
    store.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("53100", DiskFull),
        ("53300", DatabaseBusy),
        ("57P01", StorageUnavailable),
        ("XX001", DatabaseCorrupt),
        ("22001", MalformedRequest),
    ],
)
def test_what_postgresql_refuses_is_told_apart(
    postgres_url: str, code: str, kind: type[LetheonError]
) -> None:
    store = SqlStore(postgres_url)
    statement = text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
    with pytest.raises(kind, match="no"), store.write() as uow:
        connection_of(uow).execute(statement)
    with store.write() as uow:
        uow.sites.add(a_site())
        uow.commit()
    store.close()


@pytest.mark.parametrize("name", ["x" * 201, "a\x00b"])
def test_a_text_that_does_not_fit_is_the_callers_fault(postgres_url: str, name: str) -> None:
    store = SqlStore(postgres_url)
    with pytest.raises(MalformedRequest), store.write() as uow:
        uow.sites.add(a_site(display_name=name))
    store.close()


def test_a_pool_without_a_free_connection_asks_to_come_back(postgres_url: str) -> None:
    store = SqlStore(postgres_url, pool_size=2, pool_timeout_s=0.05)
    with (
        store.read(),
        store.read(),
        pytest.raises(DatabaseBusy, match="pool_size"),
        store.read(),
    ):
        pass
    with store.read() as uow:
        assert uow.sites.all() == []
    store.close()


def test_a_server_that_is_not_there_is_unavailable(postgres_url: str) -> None:
    absent = postgres_url.rpartition("/")[0] + "/absent"
    with pytest.raises(StorageUnavailable, match="absent"):
        SqlStore(absent)


def test_a_note_does_not_wait_for_the_disk_and_a_write_does(postgres_url: str) -> None:
    store, shown = SqlStore(postgres_url), text("SHOW synchronous_commit")
    with store.note() as uow:
        assert connection_of(uow).execute(shown).scalar_one() == "off"
        uow.commit()
    with store.write() as uow:
        assert connection_of(uow).execute(shown).scalar_one() == "on"
    store.close()


def test_writers_of_two_processes_take_turns(database_url: str) -> None:
    stores = [SqlStore(database_url) for _ in range(2)]
    failures: list[Exception] = []

    def count(store: SqlStore) -> None:
        try:
            for _ in range(25):
                with store.write() as uow:
                    uow.federation.count("accepted")
                    uow.commit()
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=count, args=(store,)) for store in stores for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    with stores[0].read() as uow:
        assert uow.federation.counters() == {"accepted": 100}
    for store in stores:
        store.close()


def test_a_view_does_not_change_while_it_is_read(database_url: str) -> None:
    store = SqlStore(database_url)
    with store.read() as reader:
        assert reader.federation.counters() == {}
        with store.write() as uow:
            uow.federation.count("accepted")
            uow.commit()
        assert reader.federation.counters() == {}
    with store.read() as reader:
        assert reader.federation.counters() == {"accepted": 1}
    store.close()
