"""Wrapped data keys: a SQLite file of the key folder, or in memory."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from coordinator.ports import WrappedKey
from letheon.errors import BadConfig, DiskFull

FILE: Final = "keys.sqlite"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (
    area TEXT NOT NULL, name TEXT NOT NULL, blob TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, wrapped BLOB NOT NULL, PRIMARY KEY (area, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ring (
    one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL,
    wrapping_key TEXT, generation INTEGER NOT NULL, reduced INTEGER NOT NULL
);
"""


def identity_in(directory: Path) -> str | None:
    """Of the key store in a folder, which is not changed; None if it holds none. Raises BadConfig.

    Another process may have it open.
    """
    path = directory / FILE
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as found:
            row = found.execute("SELECT identity FROM ring").fetchone()
    except sqlite3.Error as error:
        raise BadConfig(
            f"encryption.key_dir: {path} cannot be read: {error}", key="encryption.key_dir"
        ) from error
    return None if row is None else str(row[0])


class MemoryKeyRecords:
    """They end with the process."""

    def __init__(self) -> None:
        self.identity = secrets.token_hex(16)
        self._keys: dict[tuple[str, str], WrappedKey] = {}
        self._wrapping_key: str | None = None
        self._generation, self._reduced = 0, False

    def wrapping_key(self) -> str | None:
        """Id of the one in use."""
        return self._wrapping_key

    def generation(self) -> int:
        """How often it was changed."""
        return self._generation

    def was_reduced(self) -> bool:
        """Since then."""
        return self._reduced

    def find(self, area: str, name: str) -> WrappedKey | None:
        """The record."""
        return self._keys.get((area, name))

    def all(self, area: str) -> dict[str, WrappedKey]:
        """Records of an area by name."""
        return {key.name: key for key in self._keys.values() if key.area == area}

    def save(self, key: WrappedKey) -> None:
        """Adds or replaces."""
        self._keys[key.area, key.name] = key

    def remove(self, area: str, names: Iterable[str]) -> None:
        """Those of them that are there."""
        for name in names:
            if self._keys.pop((area, name), None) is not None:
                self._reduced = True

    def rewrap(self, key_id: str, wrap: Callable[[WrappedKey], bytes]) -> None:
        """All or nothing."""
        self._keys = {at: replace(key, wrapped=wrap(key)) for at, key in self._keys.items()}
        self._generation += 0 if self._wrapping_key is None else 1
        self._wrapping_key, self._reduced = key_id, False

    def compact(self) -> None:
        """Nothing is left over."""

    def close(self) -> None:
        """Nothing is open."""


class SqliteKeyRecords:
    """One caller at a time. Commits wait for the disk; removed records are overwritten."""

    def __init__(self, directory: Path) -> None:
        """Raises BadConfig if the file cannot be used."""
        path = directory / FILE
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.executescript(_SCHEMA)
            self._db.execute(
                "INSERT OR IGNORE INTO ring VALUES (1, ?, NULL, 0, 0)", (secrets.token_hex(16),)
            )
            ((self.identity,),) = self._db.execute("SELECT identity FROM ring").fetchall()
        except (OSError, sqlite3.Error) as error:
            raise BadConfig(
                f"encryption.key_dir: {path} cannot be used: {error}", key="encryption.key_dir"
            ) from error

    def wrapping_key(self) -> str | None:
        """Id of the one in use."""
        found = self._ring("wrapping_key")
        return None if found is None else str(found)

    def generation(self) -> int:
        """How often it was changed."""
        return int(str(self._ring("generation")))

    def was_reduced(self) -> bool:
        """Since then."""
        return bool(self._ring("reduced"))

    def find(self, area: str, name: str) -> WrappedKey | None:
        """The record."""
        row = self._db.execute(
            "SELECT * FROM keys WHERE area = ? AND name = ?", (area, name)
        ).fetchone()
        return None if row is None else WrappedKey(*row)

    def all(self, area: str) -> dict[str, WrappedKey]:
        """Records of an area by name."""
        rows = self._db.execute("SELECT * FROM keys WHERE area = ?", (area,)).fetchall()
        return {row[1]: WrappedKey(*row) for row in rows}

    def save(self, key: WrappedKey) -> None:
        """Adds or replaces. Raises DiskFull."""
        values = (key.area, key.name, key.blob, key.size_bytes, key.wrapped)
        with self._changing():
            self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", values)

    def remove(self, area: str, names: Iterable[str]) -> None:
        """Those of them that are there. Raises DiskFull."""
        with self._changing():
            removed = sum(
                self._db.execute(
                    "DELETE FROM keys WHERE area = ? AND name = ?", (area, name)
                ).rowcount
                for name in names
            )
            if removed:
                self._db.execute("UPDATE ring SET reduced = 1")

    def rewrap(self, key_id: str, wrap: Callable[[WrappedKey], bytes]) -> None:
        """All or nothing. Raises DiskFull."""
        with self._changing():
            keys = [WrappedKey(*row) for row in self._db.execute("SELECT * FROM keys").fetchall()]
            self._db.executemany(
                "UPDATE keys SET wrapped = ? WHERE area = ? AND name = ?",
                ((wrap(key), key.area, key.name) for key in keys),
            )
            self._db.execute(
                "UPDATE ring SET generation = generation + (wrapping_key IS NOT NULL), "
                "wrapping_key = ?, reduced = 0",
                (key_id,),
            )

    def compact(self) -> None:
        """Empties the journal and rewrites the file."""
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _ring(self, column: str) -> object:
        ((value,),) = self._db.execute(f"SELECT {column} FROM ring").fetchall()  # noqa: S608 (a name of ours)
        return value

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._back()
            raise DiskFull(f"the keys cannot be written: {error}") from error
        except BaseException:
            self._back()
            raise

    def _back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
