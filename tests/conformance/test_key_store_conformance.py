"""What every key store promises: wrapping keys and wrapped data keys, in files or in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from coordinator.adapters.key_records import MemoryKeyRecords, SqliteKeyRecords
from coordinator.adapters.wrapping_keys import FileWrappingKeys, MemoryWrappingKeys
from coordinator.ports import KeyRecords, WrappedKey, WrappingKeys
from coordinator.services.key_ring import KeyRing
from letheon.errors import BadConfig, KeyGone

DATA_KEY = bytes(range(32))
RECORD = WrappedKey("payloads", "a" * 64, "b" * 64, 1000, b"wrapped")


@dataclass
class Store:
    """A key store; opened again it is the same one if it is kept in files."""

    wrapping: Callable[[], WrappingKeys]
    records: Callable[[], KeyRecords]
    lasts: bool


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "files":
        keys = tmp_path / "keys"
        return Store(lambda: FileWrappingKeys(keys), lambda: SqliteKeyRecords(keys), lasts=True)
    wrapping, records = MemoryWrappingKeys(), MemoryKeyRecords()
    return Store(lambda: wrapping, lambda: records, lasts=False)


def test_a_data_key_opens_with_its_wrapping_key_and_context_alone(store: Store) -> None:
    keys = store.wrapping()
    one, other = keys.create(), keys.create()
    wrapped = keys.wrap(one, DATA_KEY, b"here")
    assert keys.wrap(one, DATA_KEY, b"here") != wrapped
    assert DATA_KEY not in wrapped
    assert store.wrapping().unwrap(one, wrapped, b"here") == DATA_KEY
    for key, context in ((other, b"here"), (one, b"there"), ("c" * 32, b"here")):
        with pytest.raises(KeyGone):
            keys.unwrap(key, wrapped, context)
    with pytest.raises(KeyGone):
        keys.unwrap(one, wrapped[:-1], b"here")


def test_a_destroyed_wrapping_key_opens_nothing_any_more(store: Store) -> None:
    keys = store.wrapping()
    one, other = keys.create(), keys.create()
    wrapped = keys.wrap(one, DATA_KEY, b"here")
    keys.destroy(one)
    keys.destroy(one)
    assert keys.all() == store.wrapping().all() == [other]
    for again in (keys, store.wrapping()):
        with pytest.raises(KeyGone):
            again.unwrap(one, wrapped, b"here")


def test_records_are_found_replaced_and_removed(store: Store) -> None:
    records = store.records()
    records.save(RECORD)
    records.save(replace(RECORD, area="models"))
    records.save(replace(RECORD, blob="d" * 64))
    assert store.records().find("payloads", RECORD.name) == replace(RECORD, blob="d" * 64)
    assert records.find("payloads", "e" * 64) is None
    assert records.all("models") == {RECORD.name: replace(RECORD, area="models")}
    assert not records.was_reduced()
    records.remove("models", ["e" * 64])
    assert not records.was_reduced()
    records.remove("models", [RECORD.name])
    assert store.records().was_reduced()
    assert records.all("models") == {}


def test_wrapping_all_anew_is_all_or_nothing(store: Store) -> None:
    records = store.records()
    records.rewrap("first", lambda record: record.wrapped)
    names = [f"{i:064x}" for i in range(20)]
    for name in names:
        records.save(replace(RECORD, name=name))
    records.remove("payloads", names[:1])

    def fails(record: WrappedKey) -> bytes:
        if record.name == names[-1]:
            raise KeyGone("no such key")
        return b"anew"

    with pytest.raises(KeyGone):
        records.rewrap("second", fails)
    assert {record.wrapped for record in records.all("payloads").values()} == {b"wrapped"}
    assert (records.wrapping_key(), records.generation(), records.was_reduced()) == (
        "first",
        0,
        True,
    )
    records.rewrap("second", lambda _: b"anew")
    assert {record.wrapped for record in store.records().all("payloads").values()} == {b"anew"}
    again = store.records()
    assert (again.wrapping_key(), again.generation(), again.was_reduced()) == ("second", 1, False)
    assert again.identity == records.identity


def test_forgotten_keys_are_worthless_even_to_who_copied_the_records(store: Store) -> None:
    ring = KeyRing(store.wrapping(), store.records())
    ring.keep("payloads", "stays", DATA_KEY, blob="x", size_bytes=7)
    ring.keep("payloads", "goes", os.urandom(32))
    copied = ring.all("payloads")["goes"]
    (old,) = store.wrapping().all()
    assert store.wrapping().unwrap(old, copied.wrapped, copied.context)
    assert not ring.shred(), "nothing was forgotten"
    ring.forget("payloads", "goes")
    assert ring.find("payloads", "goes") is None
    assert ring.shred()
    assert not ring.shred()
    kept = ring.find("payloads", "stays")
    assert kept is not None
    assert (kept.key, kept.blob, kept.size_bytes) == (DATA_KEY, "x", 7)
    assert "key" not in repr(kept).replace("DataKey", "")
    (new,) = store.wrapping().all()
    assert new != old
    for key in (old, new):
        with pytest.raises(KeyGone):
            store.wrapping().unwrap(key, copied.wrapped, copied.context)
    assert ring.generation == 1


@pytest.mark.parametrize("stop_at", ["created", "rewrapped"])
def test_a_change_of_the_wrapping_key_that_was_cut_is_ended_at_the_next_start(
    store: Store, stop_at: str
) -> None:
    if not store.lasts:
        pytest.skip("a key store in memory ends with its process")
    ring = KeyRing(store.wrapping(), store.records())
    ring.keep("payloads", "stays", DATA_KEY)
    ring.keep("payloads", "goes", os.urandom(32))
    ring.forget("payloads", "goes")
    wrapping, records = store.wrapping(), store.records()
    old = records.wrapping_key()
    new = wrapping.create()
    if stop_at == "rewrapped":
        records.rewrap(
            new,
            lambda r: wrapping.wrap(
                new, wrapping.unwrap(str(old), r.wrapped, r.context), r.context
            ),
        )
    assert len(wrapping.all()) == 2
    after = KeyRing(store.wrapping(), store.records())
    assert after.shred() == (stop_at == "created")
    assert old not in store.wrapping().all()
    assert len(store.wrapping().all()) == 1
    found = after.find("payloads", "stays")
    assert found is not None
    assert found.key == DATA_KEY


def test_a_store_without_its_wrapping_key_is_refused(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    KeyRing(FileWrappingKeys(keys), SqliteKeyRecords(keys)).close()
    for path in keys.glob("wrapping-*.key"):
        path.unlink()
    with pytest.raises(BadConfig, match="is not in the key store"):
        KeyRing(FileWrappingKeys(keys), SqliteKeyRecords(keys))


def test_nobody_else_may_read_the_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    KeyRing(FileWrappingKeys(keys), SqliteKeyRecords(keys)).close()
    assert keys.stat().st_mode & 0o077 == 0
    for path in keys.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
