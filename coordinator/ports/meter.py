"""What is measured, and made up, on behalf of the use cases."""

# ruff: noqa: D102 (a method says by its name and types what it does)
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Meter(Protocol):
    """Counts what happened to updates."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Times receive, validate, persist, merge or publish."""
        ...

    def update(self, outcome: str, site: str | None = None) -> None:
        """An upload ended; `site` is a registered one, None if no site sent it."""
        ...

    def rejected(self, rule: str) -> None: ...
    def staleness(self, versions: int, site: str) -> None: ...
    def received(self, size_bytes: int, site: str) -> None: ...
    def sent(self, size_bytes: int, site: str) -> None: ...


IdMaker = Callable[[], str]
