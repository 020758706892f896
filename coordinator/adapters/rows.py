"""Records to rows and back: a record's fields are its table's columns.

The statements that every delta sends are built once for each table: building one takes longer than
SQLite takes to answer it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Select,
    Table,
    Update,
    and_,
    bindparam,
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

    def all(self, query: Select[Any], values: Mapping[str, object] | None = None) -> list[Record]:
        """The records a query of whole rows finds, with these values of its parameters."""
        found = self.connection.execute(query, values or {})
        return [self.record(**row._mapping) for row in found]

    def first(self, query: Select[Any]) -> Record | None:
        """The first record of a query, or None."""
        row = self.connection.execute(query.limit(1)).first()
        return None if row is None else self.record(**row._mapping)

    def find(self, *key: object) -> Record | None:
        """The record with a primary key, or None."""
        row = self.connection.execute(_find(self.table), _key(key)).first()
        return None if row is None else self.record(**row._mapping)

    def add(self, record: Record) -> None:
        """Inserts a record."""
        self.connection.execute(insert_into(self.table), _values(record))

    def save(self, record: Record) -> None:
        """Writes a record over the row with its primary key, or inserts it."""
        values = _values(record)
        key = _key(tuple(values[column.name] for column in self.table.primary_key))
        if self.connection.execute(_update(self.table), values | key).rowcount == 0:
            self.connection.execute(insert_into(self.table), values)

    def remove(self, *conditions: Condition) -> None:
        """Deletes the rows that meet all conditions."""
        self.connection.execute(delete(self.table).where(*conditions))

    def remove_one(self, *key: object) -> None:
        """Deletes the row with a primary key; harmless if there is none."""
        self.connection.execute(_delete(self.table), _key(key))


@cache
def _find(table: Table) -> Select[Any]:
    return select(table).where(_has_key(table)).limit(1)


@cache
def insert_into(table: Table) -> Insert:
    """Of one row, whose values are given when it is executed."""
    return insert(table)


@cache
def _update(table: Table) -> Update:
    return update(table).where(_has_key(table))


@cache
def _delete(table: Table) -> Delete:
    return delete(table).where(_has_key(table))


def _has_key(table: Table) -> Condition:
    columns = enumerate(table.primary_key.columns)
    return and_(*(column == bindparam(f"key_{n}", type_=column.type) for n, column in columns))


def _key(parts: tuple[object, ...]) -> dict[str, object]:
    return {f"key_{n}": part for n, part in enumerate(parts)}


def _values(record: DataclassInstance) -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in fields(record)}
