"""The log of erasures at a second place."""

# ruff: noqa: D102 (a method says by its name and types what it does)
from __future__ import annotations

from datetime import datetime
from typing import Protocol

from coordinator.domain.erasure import Erasure
from coordinator.domain.tombstones import Tombstone, TombstoneEvent


class TombstoneLog(Protocol):
    """Append-only and durable; raises StorageUnavailable while its place does not answer."""

    def all(self) -> list[Tombstone]: ...
    def append(self, event: TombstoneEvent, erasure: Erasure, at: datetime) -> Tombstone: ...
