"""The row of the one that may write, which is also the lock of all writers."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select

from coordinator.adapters import tables
from coordinator.adapters.rows import Rows
from coordinator.adapters.sql_engines import is_postgresql
from coordinator.domain.leadership import COORDINATOR
from coordinator.domain.model import Leadership
from letheon.errors import DatabaseCorrupt

# Of a client that has been answered and says nothing, and of one that takes no answer.
_LIMITS = ("idle_in_transaction_session_timeout", "tcp_user_timeout")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class SqlLeadership:
    """Who may write."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = Rows(connection, tables.leadership, Leadership)

    def get(self) -> Leadership:
        """The newest leadership. Raises DatabaseCorrupt if somebody removed the row."""
        found = self._rows.find(COORDINATOR)
        if found is None:
            raise _row_is_gone()
        return found

    def save(self, leadership: Leadership) -> None:
        """A new, renewed or given up leadership."""
        self._rows.save(leadership)

    def begin_writing(self, *, hasty: bool, silence_s: float) -> int:
        """Waits for the one writer to end, keeps out the next; answers the newest token.

        One round trip. PostgreSQL ends the transaction, and frees the lock, when it hears nothing
        for `silence_s`, or cannot bring an answer to the client for so long. On SQLite the
        transaction itself is the lock.
        """
        limit = round(1000 * silence_s) if is_postgresql(self._connection.engine) else None
        query = _begin(limit, hasty)
        row = self._connection.execute(query).first()
        if row is None:
            raise _row_is_gone()
        return int(row[0])


@cache  # every transaction begins with it
def _begin(silence_ms: int | None, hasty: bool) -> Select[Any]:
    """The statement; without a limit that of SQLite, which has no such settings."""
    columns = tables.leadership.c
    wanted: list[ColumnElement[Any]] = [columns.token]
    if silence_ms is not None:
        wanted += [func.set_config(name, f"{silence_ms}ms", True) for name in _LIMITS]
        if hasty:
            wanted.append(func.set_config("synchronous_commit", "off", True))
    return select(*wanted).where(columns.name == COORDINATOR).with_for_update()


def add_missing_row(connection: Connection) -> None:
    """Nobody has led yet; under the lock of the migrations."""
    columns = tables.leadership.c
    known = connection.execute(select(columns.name).where(columns.name == COORDINATOR)).first()
    if known is None:
        connection.execute(
            insert(tables.leadership).values(
                name=COORDINATOR, holder="", token=0, lease_until=_LONG_AGO
            )
        )


def _row_is_gone() -> DatabaseCorrupt:
    return DatabaseCorrupt(
        "the row of the table leadership is gone: somebody changed the database by hand. "
        "Restore the newest backup, then run `letheon restore`"
    )
