"""Records to rows and back: a record's fields are its table's columns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    insert,
    select,
    update,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)
else:
    Record = TypeVar("Record")

Condition = ColumnElement[bool]


@dataclass(frozen=True)
class Rows(Generic[Record]):
    """The rows of one table as records of one dataclass, inside one connection."""

    connection: Connection
    table: Table
    record: type[Record]

    def select(self, *conditions: Condition) -> Select[Any]:
        """A query of whole rows."""
        return select(self.table).where(*conditions)

    def all(self, query: Select[Any]) -> list[Record]:
        """The records a query of whole rows finds."""
        return [self.record(**row._mapping) for row in self.connection.execute(query)]

    def first(self, query: Select[Any]) -> Record | None:
        """The first record of a query, or None."""
        row = self.connection.execute(query.limit(1)).first()
        return None if row is None else self.record(**row._mapping)

    def find(self, *key: object) -> Record | None:
        """The record with a primary key, or None."""
        return self.first(self.select(self._is(key)))

    def add(self, record: Record) -> None:
        """Inserts a record."""
        self.connection.execute(insert(self.table).values(self._values(record)))

    def save(self, record: Record) -> None:
        """Writes a record over the row with its primary key, or inserts it."""
        values = self._values(record)
        key = tuple(values[column.name] for column in self.table.primary_key)
        done = self.connection.execute(update(self.table).where(self._is(key)).values(values))
        if done.rowcount == 0:
            self.connection.execute(insert(self.table).values(values))

    def remove(self, *conditions: Condition) -> None:
        """Deletes the rows that meet all conditions."""
        self.connection.execute(delete(self.table).where(*conditions))

    def _is(self, key: tuple[object, ...]) -> Condition:
        columns = self.table.primary_key.columns
        return and_(*(column == part for column, part in zip(columns, key, strict=True)))

    def _values(self, record: Record) -> dict[str, object]:
        return {field.name: getattr(record, field.name) for field in fields(record)}
