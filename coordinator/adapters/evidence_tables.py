"""The tables of evidence. Rows of `audit_log`, `log_leaves`, `log_checkpoints` and
`entry_signatures` are never changed: the database itself refuses it (migration 0006).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, String, Table, Text

from coordinator.adapters.column_types import Json, UtcTime, words
from coordinator.adapters.tables import metadata
from coordinator.domain.evidence import LeafKind

_ID = String(64)
_SHA = String(64)
_WHO = String(200)

site_keys = Table(
    "site_keys",
    metadata,
    Column("site", _ID, ForeignKey("sites.id"), primary_key=True),
    Column("key_id", String(16), primary_key=True),
    Column("public_pem", Text, nullable=False),
    Column("since_entry", BigInteger, nullable=False),
    Column("registered_at", UtcTime, nullable=False),
    Column("until_entry", BigInteger),
)
entry_signatures = Table(
    "entry_signatures",
    metadata,
    Column("entry", BigInteger, ForeignKey("entries.entry"), primary_key=True, autoincrement=False),
    Column("key_id", String(16), nullable=False),
    Column("signature", String(100), nullable=False),
)
audit_log = Table(
    "audit_log",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("role", String(32), nullable=False),
    Column("caller", _WHO, nullable=False),
    Column("serial", String(64), nullable=False),
    Column("action", String(64), nullable=False, index=True),
    Column("object", _WHO, nullable=False, index=True),
    Column("outcome", String(16), nullable=False),
    Column("details", Json, nullable=False),
    Column("previous_hash", _SHA, nullable=False),
    Column("hash", _SHA, nullable=False),
)
log_leaves = Table(
    "log_leaves",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", words(LeafKind), nullable=False),
    Column("erasure", _ID, ForeignKey("erasures.id")),
    Column("content", LargeBinary, nullable=False),
    Column("leaf_hash", _SHA, nullable=False, index=True),
    Column("at", UtcTime, nullable=False),
    Index("log_leaves_by_erasure", "erasure", "kind"),
)
log_checkpoints = Table(
    "log_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)
downloads = Table(
    "downloads",
    metadata,
    Column("site", _ID, ForeignKey("sites.id"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("first_version", BigInteger, nullable=False),
    Column("last_version", BigInteger, nullable=False),
    Column("first_at", UtcTime, nullable=False),
    Column("last_at", UtcTime, nullable=False),
)
