"""The agent's SQLite file beside the outbox's own use of it: index, subjects, exchanges,
privacy.

The daemon and `letheon-agent erase` both write here; SQLite has one write at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from letheon.errors import BadConfig, StorageUnavailable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record_index (
  record TEXT PRIMARY KEY,            -- never leaves the site
  patient TEXT                        -- pseudonym; NULL where patients are not known
);
CREATE INDEX IF NOT EXISTS records_by_patient ON record_index (patient);
CREATE TABLE IF NOT EXISTS subjects (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  reference TEXT UNIQUE,              -- NULL while collecting
  salt BLOB NOT NULL,
  basis TEXT NOT NULL,
  state TEXT NOT NULL,
  erasure TEXT NOT NULL DEFAULT '',
  made_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS subject_tokens (
  number INTEGER NOT NULL REFERENCES subjects (number),
  token TEXT NOT NULL,
  PRIMARY KEY (number, token)
);
CREATE TABLE IF NOT EXISTS excluded (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  token TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS exchanges (
  task TEXT PRIMARY KEY,
  exclusions INTEGER NOT NULL,        -- what was excluded when it began
  done INTEGER NOT NULL,              -- deltas recomputed
  update_id TEXT NOT NULL             -- of the answer
);
CREATE TABLE IF NOT EXISTS privacy_charges (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  update_id TEXT NOT NULL UNIQUE,
  noise_multiplier REAL NOT NULL,
  sampling_rate REAL NOT NULL,
  steps INTEGER NOT NULL,
  unit TEXT NOT NULL,                 -- record or patient
  epsilon REAL NOT NULL,              -- of everything up to here, at delta
  epsilon_next REAL NOT NULL,         -- of that and one more such training
  delta REAL NOT NULL,
  charged_at TEXT NOT NULL
);
"""
_BUSY_S = 10.0  # how long a writer waits for the other process


class LocalTables:
    """One connection, used by one thread at a time. Raises StorageUnavailable if the disk fails."""

    def __init__(self, database: Path) -> None:
        """Makes what is missing, so that the state of an earlier release goes on."""
        try:
            self._db = sqlite3.connect(
                database, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise BadConfig(f"{database} cannot be used: {error}") from error

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def do(self, statement: str, *values: object) -> sqlite3.Cursor:
        """One statement."""
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise StorageUnavailable(f"the record index cannot be used: {error}") from error

    def do_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """The statement once for each row."""
        try:
            self._db.executemany(statement, rows)
        except sqlite3.Error as error:
            raise StorageUnavailable(f"the record index cannot be written: {error}") from error

    def one(self, statement: str, *values: object) -> sqlite3.Row | None:
        """The first row, or None."""
        row: sqlite3.Row | None = self.do(statement, *values).fetchone()
        return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside, or none."""
        self.do("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self.do("COMMIT")
