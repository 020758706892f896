"""Repositories of evidence: keys and signatures of sites, the audit log, the log, downloads."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from coordinator.adapters import evidence_tables as tables
from coordinator.adapters.rows import Rows
from coordinator.domain.evidence import (
    Download,
    EntrySignature,
    Leaf,
    LeafKind,
    SignedCheckpoint,
    SiteKey,
)
from letheon.proof.audit_chain import AuditRow


class SqlSiteKeys:
    """Keys with which sites sign, oldest first."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.site_keys, SiteKey)

    def add(self, key: SiteKey) -> None:
        """A new key of a site."""
        self._rows.add(key)

    def save(self, key: SiteKey) -> None:
        """A key that came to its end."""
        self._rows.save(key)

    def of(self, site: str) -> list[SiteKey]:
        """Every key the site ever had."""
        return self._rows.all(_keys_of(), {"of": site})

    def all(self) -> list[SiteKey]:
        """Every key of every site."""
        k = tables.site_keys.c
        return self._rows.all(self._rows.select().order_by(k.site, k.since_entry, k.registered_at))


class SqlSignatures:
    """Signatures of ledger rows."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.entry_signatures, EntrySignature)

    def add(self, signature: EntrySignature) -> None:
        """The signature of a new row."""
        self._rows.add(signature)

    def between(self, first: int, last: int) -> dict[int, EntrySignature]:
        """By row, of rows first..last."""
        column = tables.entry_signatures.c.entry
        found = self._rows.all(self._rows.select(column >= first, column <= last))
        return {one.entry: one for one in found}


class SqlAudit:
    """The audit log: append only, gap-free from 0."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.audit_log, AuditRow)

    def add(self, row: AuditRow) -> None:
        """The next row. The primary key refuses a number that is taken."""
        self._rows.add(row)

    def newest(self) -> AuditRow | None:
        """The newest row, or None."""
        return self._rows.first(self._rows.select().order_by(tables.audit_log.c.number.desc()))

    def page(self, first: int, limit: int) -> list[AuditRow]:
        """Rows from `first`, in order, at most `limit`."""
        column = tables.audit_log.c.number
        return self._rows.all(self._rows.select(column >= first).order_by(column).limit(limit))


class SqlLog:
    """The transparency log: append only, gap-free from 0."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._leaves = Rows(connection, tables.log_leaves, Leaf)
        self._checkpoints = Rows(connection, tables.log_checkpoints, SignedCheckpoint)

    def size(self) -> int:
        """Number of leaves."""
        query = select(func.count()).select_from(tables.log_leaves)
        return int(self._connection.execute(query).scalar_one())

    def add(self, leaf: Leaf) -> None:
        """The next leaf."""
        self._leaves.add(leaf)

    def find(self, number: int) -> Leaf | None:
        """One leaf, or None."""
        return self._leaves.find(number)

    def newest(self, kind: LeafKind, erasure: str | None = None) -> Leaf | None:
        """The newest leaf of a kind, of one erasure or of any."""
        columns = tables.log_leaves.c
        query = self._leaves.select(columns.kind == kind).order_by(columns.number.desc())
        if erasure is not None:
            query = query.where(columns.erasure == erasure)
        return self._leaves.first(query)

    def by_hash(self, leaf_hash: str) -> Leaf | None:
        """The leaf with this hash, or None."""
        return self._leaves.first(self._leaves.select(tables.log_leaves.c.leaf_hash == leaf_hash))

    def hashes(self, size: int) -> list[bytes]:
        """Of the first `size` leaves."""
        columns = tables.log_leaves.c
        query = select(columns.leaf_hash).where(columns.number < size).order_by(columns.number)
        return [bytes.fromhex(text) for text in self._connection.execute(query).scalars()]

    def add_checkpoint(self, checkpoint: SignedCheckpoint) -> None:
        """What was signed of the log at its present size."""
        self._checkpoints.add(checkpoint)

    def checkpoint(self, size: int | None = None) -> SignedCheckpoint | None:
        """The newest, or that of one size; or None."""
        if size is not None:
            return self._checkpoints.find(size)
        column = tables.log_checkpoints.c.size
        return self._checkpoints.first(self._checkpoints.select().order_by(column.desc()))


class SqlDownloads:
    """What sites have read."""

    def __init__(self, connection: Connection) -> None:
        self._rows = Rows(connection, tables.downloads, Download)

    def find(self, site: str, epoch: int) -> Download | None:
        """What a site read of one epoch, or None."""
        return self._rows.find(site, epoch)

    def save(self, download: Download) -> None:
        """A changed range."""
        self._rows.save(download)

    def overlapping(self, first: int, last: int) -> list[Download]:
        """Those that may hold a version of first..last, by site and epoch."""
        d = tables.downloads.c
        query = self._rows.select(d.first_version <= last, d.last_version >= first)
        return self._rows.all(query.order_by(d.site, d.epoch))


@cache  # every delta asks for it
def _keys_of() -> Select[Any]:
    k = tables.site_keys.c
    query = select(tables.site_keys).where(k.site == bindparam("of"))
    return query.order_by(k.since_entry, k.registered_at)
