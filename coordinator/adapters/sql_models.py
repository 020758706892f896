"""Repositories of models: files, pins, checkpoints, contributions, exports, the federation row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, Update, bindparam, delete, insert, select, update

from coordinator.adapters import tables
from coordinator.adapters.rows import Rows, insert_into
from coordinator.domain.model import (
    Checkpoint,
    Compaction,
    Contribution,
    Destroyed,
    Export,
    FederationRow,
    ModelFile,
)
from letheon.errors import StorageUnavailable


@dataclass(frozen=True)
class _Pin:
    version: int
    reason: str


class SqlModels:
    """Versions written out, and what pins them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = Rows(connection, tables.model_files, ModelFile)
        self._pins = Rows(connection, tables.pins, _Pin)

    def find(self, version: int) -> ModelFile | None:
        """The file of a version, or None."""
        return self._rows.find(version)

    def add(self, file: ModelFile) -> None:
        """A version was written out."""
        self._rows.save(file)

    def remove(self, version: int) -> None:
        """Its file is gone."""
        self._rows.remove(tables.model_files.c.version == version)

    def newest(self, limit: int | None = None) -> list[ModelFile]:
        """Newest version first."""
        query = self._rows.select().order_by(tables.model_files.c.version.desc())
        return self._rows.all(query.limit(limit))

    def pin(self, version: int, reason: str) -> None:
        """Keeps a version's file; pinning twice for one reason is pinning once."""
        self._pins.save(_Pin(version, reason))

    def unpin(self, reason: str, version: int | None = None) -> None:
        """Lifts a reason's pins, of one version or of all."""
        p = tables.pins.c
        conditions = [p.reason == reason]
        if version is not None:
            conditions.append(p.version == version)
        self._pins.remove(*conditions)

    def pins(self) -> dict[int, set[str]]:
        """Reasons by version."""
        found: dict[int, set[str]] = {}
        for pin in self._pins.all(self._pins.select()):
            found.setdefault(pin.version, set()).add(pin.reason)
        return found


class SqlDestroyed:
    """What erasures destroyed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = Rows(connection, tables.destroyed_versions, Destroyed)

    def versions(self) -> list[Destroyed]:
        """Ranges of versions, lowest first."""
        query = self._rows.select().order_by(tables.destroyed_versions.c.first_version)
        return self._rows.all(query)

    def add_versions(self, destroyed: Destroyed) -> None:
        """One more range; repeating it is harmless."""
        self._rows.save(destroyed)

    def add_payload(self, sha256: str, erasure: str, now: datetime) -> None:
        """One more payload; the first erasure that destroyed it stays named."""
        if self.destroyer_of(sha256) is None:
            self._connection.execute(
                insert(tables.destroyed_payloads).values(sha256=sha256, erasure=erasure, at=now)
            )

    def payloads(self, erasure: str) -> list[str]:
        """Digests of the payloads an erasure destroyed."""
        p = tables.destroyed_payloads.c
        found = self._connection.execute(select(p.sha256).where(p.erasure == erasure))
        return [str(sha256) for sha256 in found.scalars()]

    def destroyer_of(self, sha256: str) -> str | None:
        """The erasure that destroyed a payload, or None."""
        p = tables.destroyed_payloads.c
        found = self._connection.execute(select(p.erasure).where(p.sha256 == sha256)).scalar()
        return None if found is None else str(found)


class SqlCheckpoints:
    """Checkpoints of the head."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = Rows(connection, tables.checkpoints, Checkpoint)

    def add(self, checkpoint: Checkpoint) -> None:
        """A checkpoint whose blob is durable; an anchor may replace one of the same entry."""
        self._rows.save(checkpoint)

    def remove(self, entry: int) -> None:
        """Forgets a checkpoint."""
        self._connection.execute(
            delete(tables.checkpoints).where(tables.checkpoints.c.entry == entry)
        )

    def all(self) -> list[Checkpoint]:
        """Newest first."""
        return self._rows.all(self._rows.select().order_by(tables.checkpoints.c.entry.desc()))


class SqlContributions:
    """How far each site's contribution is folded."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.contributions, Contribution)

    def find(self, site: str) -> Contribution | None:
        """The contribution, or None if nothing was ever folded."""
        return self._rows.find(site)

    def save(self, contribution: Contribution) -> None:
        """A newly folded contribution."""
        self._rows.save(contribution)

    def all(self) -> list[Contribution]:
        """Every contribution, by site."""
        return self._rows.all(self._rows.select().order_by(tables.contributions.c.site))


class SqlCompactions:
    """Payloads given up behind an anchor."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.compactions, Compaction)

    def save(self, compaction: Compaction) -> None:
        """A new compaction, or one that is finished."""
        self._rows.save(compaction)

    def all(self) -> list[Compaction]:
        """Newest first."""
        return self._rows.all(
            self._rows.select().order_by(tables.compactions.c.through_entry.desc())
        )


class SqlExports:
    """Recorded exports."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.exports, Export)

    def find(self, request_id: str) -> Export | None:
        """The export, or None."""
        return self._rows.find(request_id)

    def add(self, export: Export) -> None:
        """A new export."""
        self._rows.add(export)

    def all(self) -> list[Export]:
        """Newest first."""
        return self._rows.all(self._rows.select().order_by(tables.exports.c.exported_at.desc()))


class SqlFederation:
    """The federation row and its counters."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows = Rows(connection, tables.federation, FederationRow)

    def find(self) -> FederationRow | None:
        """The row, or None before the plan was imported."""
        return self._rows.first(self._rows.select())

    def get(self) -> FederationRow:
        """The row. Raises StorageUnavailable before the plan was imported."""
        found = self.find()
        if found is None:
            raise StorageUnavailable("the federation's plan is not imported yet")
        return found

    def add(self, row: FederationRow) -> None:
        """The row of a new federation."""
        self._rows.add(row)

    def save(self, row: FederationRow) -> None:
        """A changed row."""
        self._rows.save(row)

    def count(self, outcome: str, by: int = 1) -> None:
        """Adds to a counter."""
        done = self._connection.execute(_count(), {"of": outcome, "by": by})
        if done.rowcount == 0:
            values = {"outcome": outcome, "count": by}
            self._connection.execute(insert_into(tables.counters), values)

    def counters(self) -> dict[str, int]:
        """Counters by outcome."""
        c = tables.counters.c
        found = self._connection.execute(select(c.outcome, c["count"])).all()
        return {str(outcome): int(count) for outcome, count in found}


@cache
def _count() -> Update:
    c = tables.counters
    more = bindparam("by", type_=c.c["count"].type)
    return update(c).where(c.c.outcome == bindparam("of")).values({"count": c.c["count"] + more})
