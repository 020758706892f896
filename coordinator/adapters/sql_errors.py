"""Errors of the databases in the words of the federation: who can do something about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from letheon.errors import (
    DatabaseBusy,
    DatabaseCorrupt,
    DiskFull,
    LetheonError,
    MalformedRequest,
    StorageUnavailable,
)

_DISK_RETRY_S = 60.0
_FULL = frozenset({"SQLITE_FULL", "53100"})
_TOO_MANY = frozenset({"53200", "53300", "53400"})
# Classes of PostgreSQL: XX001 data_corrupted, XX002 index_corrupted.
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "XX001", "XX002")
_ADVICE = (
    "stop, keep a copy of the damaged one, put the newest backup in its place, "
    "then run `letheon restore`"
)


@contextmanager
def in_our_words() -> Iterator[None]:
    """Raises StorageUnavailable, DatabaseBusy, DiskFull, DatabaseCorrupt or MalformedRequest.

    What is left, such as a key that is taken, is a bug and keeps its own class.
    """
    try:
        yield
    except NoFreeConnection as error:
        raise DatabaseBusy(
            "every connection to the database is in use; if that is often so, raise "
            "database.pool_size",
        ) from error
    except DBAPIError as error:
        translated = _translated(error)
        if translated is None:
            raise
        raise translated from error


def damaged(found: str) -> DatabaseCorrupt:
    """The error that says what to do about a damaged database."""
    return DatabaseCorrupt(f"the database is damaged ({found}): {_ADVICE}")


def _translated(error: DBAPIError) -> LetheonError | None:
    said = str(error.orig).strip().partition("\n")[0]
    code = _code(error)
    if code.startswith(_DAMAGED):
        return damaged(said)
    if code in _FULL:
        return DiskFull(f"the database has no room: {said}", retry_after_s=_DISK_RETRY_S)
    if code in _TOO_MANY:
        return DatabaseBusy(f"the database has no room for one more: {said}")
    if isinstance(error, DataError):
        return MalformedRequest(f"a value does not fit the database: {said}")
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return StorageUnavailable(f"the database does not answer: {said}")
    return None


def _code(error: DBAPIError) -> str:
    """SQLite's name of the error, or PostgreSQL's five characters; empty if it has neither."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorname", "")
    return getattr(error.orig, "sqlstate", None) or ""
