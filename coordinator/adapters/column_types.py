"""What a column may hold beyond the plain types: times, JSON, words of a closed set."""

# ruff: noqa: D102, ARG002, ANN401 (SQLAlchemy names these methods and their arguments)
from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Dialect, Enum, String, Text
from sqlalchemy.types import TypeDecorator

from coordinator.domain.erasure import Exchange, Removal


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, kept as sortable text: the same in every database."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Json(TypeDecorator[Any]):
    """A JSON value as text, keys sorted. Floats round-trip exactly."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any | None:
        return None if value is None else json.loads(value)


class RemovalJson(TypeDecorator[Removal]):
    """A removal as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Removal | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(asdict(value), sort_keys=True)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Removal | None:
        return None if value is None else Removal(**json.loads(value))


class ExchangeJson(TypeDecorator[Exchange]):
    """An exchange as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Exchange | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(asdict(value), sort_keys=True)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Exchange | None:
        return None if value is None else Exchange(**json.loads(value))


def words(kinds: type[StrEnum]) -> Enum:
    """A closed set of words, kept as text: adding one needs no type change."""
    return Enum(
        kinds,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )
