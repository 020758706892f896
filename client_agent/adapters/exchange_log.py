"""How far each recomputation of the site's deltas has come."""

from __future__ import annotations

from client_agent.adapters.local_tables import LocalTables
from client_agent.domain.subjects import Recomputation
from letheon.errors import StorageUnavailable


class ExchangeLog:
    """The `ExchangeLog` port."""

    def __init__(self, tables: LocalTables) -> None:
        self._tables = tables

    def begin(self, task: str, exclusions: int, update_id: str) -> Recomputation:
        """How far it has come; these are kept if it is new."""
        query = "INSERT OR IGNORE INTO exchanges VALUES (?, ?, 0, ?)"
        self._tables.do(query, task, exclusions, update_id)
        row = self._tables.one("SELECT * FROM exchanges WHERE task = ?", task)
        if row is None:
            raise StorageUnavailable("the state of an exchange was not kept")
        return Recomputation(task, row["exclusions"], row["done"], row["update_id"])

    def step(self, task: str, done: int) -> None:
        """So many deltas are recomputed, and their sum is durable."""
        self._tables.do("UPDATE exchanges SET done = ? WHERE task = ?", done, task)

    def end(self, task: str) -> None:
        """It was answered or given up."""
        self._tables.do("DELETE FROM exchanges WHERE task = ?", task)
