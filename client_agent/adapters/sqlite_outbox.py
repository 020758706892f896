"""Outbox and contribution log: one SQLite file, payloads beside it.

Order of writing, so that a kill at any point leaves a usable state: payload file renamed into the
outbox and its directory synced, then the row committed; receipt committed, then the payload
removed. At start, payloads without a row that needs them are removed. A row whose payload is gone
stays: the coordinator may have accepted it, and is asked before the row is closed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from client_agent.adapters.state_dir import sync_directory
from client_agent.domain.answers import EraseAnswer
from client_agent.domain.tasks import SiteDiskFailed
from client_agent.domain.upload import DeltaFacts, Payload, Receipt, Upload, UploadState
from letheon.errors import BadConfig, StorageUnavailable
from letheon.servicekit import tracing
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record_sets (
  fingerprint TEXT PRIMARY KEY,
  record_ids TEXT NOT NULL            -- JSON list; never leaves the site
);
CREATE TABLE IF NOT EXISTS uploads (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  update_id TEXT NOT NULL UNIQUE,
  task TEXT NOT NULL,
  state TEXT NOT NULL,                -- ready, stored, accepted, dropped
  size_bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  encoding TEXT NOT NULL,
  made_at TEXT NOT NULL,
  ended_at TEXT,
  drop_reason TEXT,
  -- of a training delta
  base_version INTEGER, epoch INTEGER, seed INTEGER, learning_rate REAL,
  exclusion_counter INTEGER, exclusions INTEGER NOT NULL DEFAULT 0,
  record_count INTEGER, train_loss REAL,
  record_set TEXT REFERENCES record_sets (fingerprint),
  -- of an erase answer
  erase_answer TEXT,                  -- JSON
  -- of the receipt
  outcome TEXT, version INTEGER, coefficient REAL, staleness INTEGER, entry INTEGER,
  ledger_hash TEXT, merged_sha256 TEXT
);
CREATE INDEX IF NOT EXISTS uploads_by_state ON uploads (state);
CREATE TABLE IF NOT EXISTS attempts (task TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
_DELTA_COLUMNS = tuple(DeltaFacts.__dataclass_fields__)


class SqliteOutbox:
    """The `Outbox` port on disk. Used by one thread at a time: who builds it, then the loop.

    Every method raises StorageUnavailable if the disk does not take it; nothing is then changed.
    """

    def __init__(self, database: Path, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        try:
            self._db = _open(database)
        except sqlite3.Error as error:
            raise BadConfig(
                f"{database} cannot be used ({error}): it holds the outbox and the contribution"
                " log; restore it, or move it away to begin without them"
            ) from error
        self._remove_unneeded()

    def close_database(self) -> None:
        """Folds the write-ahead log in and closes the file."""
        self._db.close()

    def add(self, upload: Upload) -> Upload:
        """Moves the payload in and commits the row; returns it with its final path."""
        kept = self._path(upload.update_id)
        made_at = self._clock.now()
        row: dict[str, object] = {
            "update_id": upload.update_id,
            "task": upload.task,
            "state": UploadState.READY,
            "size_bytes": upload.payload.size_bytes,
            "sha256": upload.payload.sha256,
            "encoding": upload.payload.encoding,
            "made_at": made_at.isoformat(),
        }
        match upload.purpose:
            case DeltaFacts() as facts:
                row |= asdict(facts)
            case EraseAnswer() as answer:
                row["erase_answer"] = json.dumps(asdict(answer))
        marks = ", ".join(f":{name}" for name in row)
        statement = f"INSERT INTO uploads ({', '.join(row)}) VALUES ({marks})"  # noqa: S608 - names are ours
        upload.payload.path.replace(kept)
        try:
            sync_directory(self._folder)
            reach("agent.moved")
            self._execute(statement, row)
        except (StorageUnavailable, OSError):
            kept.replace(upload.payload.path)  # without its row nobody would ever send it
            raise
        tracing.leave(upload.update_id)  # its upload goes on with the trace of its making
        return replace(upload, payload=replace(upload.payload, path=kept), made_at=made_at)

    def waiting(self) -> tuple[Upload, ...]:
        """Uploads that have not arrived: erasures first, then oldest first."""
        rows = self._execute(
            "SELECT * FROM uploads WHERE state IN ('ready', 'stored')"
            " ORDER BY erase_answer IS NULL, number"
        )
        return tuple(self._upload(row) for row in rows)

    def accept(self, upload: Upload, receipt: Receipt) -> None:
        """Keeps the receipt; an erase payload is then only stored, its answer still due."""
        state = UploadState.ACCEPTED if upload.is_delta else UploadState.STORED
        values = {
            "state": state,
            "ended_at": self._clock.now().isoformat(),
            "update_id": upload.update_id,
            "outcome": receipt.outcome,
            "version": receipt.version,
            "coefficient": receipt.coefficient,
            "staleness": receipt.staleness,
            "entry": receipt.entry,
            "ledger_hash": receipt.ledger_hash,
            "merged_sha256": receipt.sha256,
        }
        columns = ", ".join(f"{name} = :{name}" for name in values)
        self._execute(f"UPDATE uploads SET {columns} WHERE update_id = :update_id", values)  # noqa: S608 - names are ours
        reach("agent.receipt_kept")
        upload.payload.path.unlink(missing_ok=True)

    def close(self, upload: Upload, reason: str) -> None:
        """Ends an upload without a receipt and removes its payload."""
        self._end(upload, UploadState.DROPPED, reason)

    def conclude(self, upload: Upload) -> None:
        """The answer that belongs to a stored payload has arrived."""
        self._end(upload, UploadState.ACCEPTED, None)

    def facts_of(self, update_id: str) -> DeltaFacts | None:
        """How an accepted delta was made, or None if this log does not know it."""
        row = self._execute(
            "SELECT * FROM uploads WHERE update_id = ? AND erase_answer IS NULL", (update_id,)
        ).fetchone()
        return None if row is None else DeltaFacts(**{name: row[name] for name in _DELTA_COLUMNS})

    def remember_records(self, record_set: str, record_ids: Sequence[str]) -> None:
        """Keeps which records a fingerprint stands for."""
        self._execute(
            "INSERT OR IGNORE INTO record_sets VALUES (?, ?)",
            (record_set, json.dumps(list(record_ids))),
        )

    def begin_attempt(self, task: str) -> int:
        """Counts one more try of a task, durably; returns the number of this one, from 1."""
        row = self._execute(
            "INSERT INTO attempts VALUES (?, 1)"
            " ON CONFLICT (task) DO UPDATE SET count = count + 1 RETURNING count",
            (task,),
        ).fetchone()
        return int(row["count"])

    def end_attempts(self, task: str) -> None:
        """The task has ended; forget how often it was tried."""
        self._execute("DELETE FROM attempts WHERE task = ?", (task,))

    def _execute(
        self, statement: str, values: Mapping[str, object] | Sequence[object] = ()
    ) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, cast(Any, values))
        except sqlite3.Error as error:
            raise SiteDiskFailed(f"the outbox cannot be written: {error}") from error

    def _path(self, update_id: str) -> Path:
        return self._folder / f"{update_id}.payload"

    def _end(self, upload: Upload, state: UploadState, reason: str | None) -> None:
        self._execute(
            "UPDATE uploads SET state = ?, drop_reason = ?, ended_at = ? WHERE update_id = ?",
            (state, reason, self._clock.now().isoformat(), upload.update_id),
        )
        upload.payload.path.unlink(missing_ok=True)

    def _upload(self, row: sqlite3.Row) -> Upload:
        purpose: DeltaFacts | EraseAnswer
        if row["erase_answer"] is None:
            purpose = DeltaFacts(**{name: row[name] for name in _DELTA_COLUMNS})
        else:
            purpose = EraseAnswer(**json.loads(row["erase_answer"]))
        payload = Payload(
            self._path(row["update_id"]), row["size_bytes"], row["sha256"], row["encoding"]
        )
        state, made_at = UploadState(row["state"]), datetime.fromisoformat(row["made_at"])
        return Upload(row["update_id"], row["task"], payload, purpose, state, made_at)

    def _remove_unneeded(self) -> None:
        ready = (one for one in self.waiting() if one.state is UploadState.READY)
        needed = {upload.payload.path for upload in ready}
        for path in self._folder.iterdir():
            if path not in needed:
                path.unlink()


def _open(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    # A damaged page would otherwise come to light in the middle of a send.
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL would lose the newest commits at a power cut; a sent delta must be on record.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(_SCHEMA)
    _add_later_columns(connection)
    return connection


def _add_later_columns(connection: sqlite3.Connection) -> None:
    """A state directory of an earlier release goes on."""
    known = {row["name"] for row in connection.execute("PRAGMA table_info(uploads)")}
    if "exclusions" not in known:
        connection.execute("ALTER TABLE uploads ADD COLUMN exclusions INTEGER NOT NULL DEFAULT 0")
