"""The tables. A column is named after the field of the record it holds."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from coordinator.adapters.column_types import ExchangeJson, Json, RemovalJson, UtcTime, words
from coordinator.domain.erasure import ErasureState, Level, Verdict
from coordinator.domain.quarantine import QuarantineState
from coordinator.domain.site import SiteState
from coordinator.domain.task import AnswerKind, TaskKind
from coordinator.domain.upload import Outcome
from letheon.federation.ledger import EntryKind

metadata = MetaData()
_ID = String(64)
_SHA = String(64)

federation = Table(
    "federation",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("plan_digest", _SHA, nullable=False),
    Column("plan_json", Text, nullable=False),
    Column("serving_version", BigInteger),
    Column("withheld_version", BigInteger),
    Column("serving_carries_subject", Boolean, nullable=False),
    Column("candidate_version", BigInteger),
    Column("candidate_since", UtcTime),
    Column("last_advance_entry", BigInteger, nullable=False),
)
counters = Table(
    "counters",
    metadata,
    Column("outcome", String(32), primary_key=True),
    Column("count", BigInteger, nullable=False),
)
sites = Table(
    "sites",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("state", words(SiteState), nullable=False),
    Column("display_name", String(200), nullable=False),
    Column("record_count", BigInteger, nullable=False),
    Column("registered_at", UtcTime, nullable=False),
    Column("last_seen_at", UtcTime, nullable=False),
    Column("accepted_deltas", BigInteger, nullable=False),
    Column("first_version", BigInteger),
    Column("last_version", BigInteger),
    Column("erasure", _ID),
    Column("exclusion_counter", BigInteger, nullable=False),
    Column("control_records", BigInteger),
    Column("class_counts", Json),
)
entries = Table(
    "entries",
    metadata,
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", words(EntryKind), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("site", _ID, ForeignKey("sites.id")),
    Column("at", UtcTime, nullable=False),
    Column("update_id", _ID),
    Column("base_version", BigInteger),
    Column("staleness", BigInteger),
    Column("coefficient", Float(53)),
    Column("payload_sha256", _SHA),
    Column("payload_bytes", BigInteger),
    Column("encoding", String(16)),
    Column("details", Json, nullable=False),
    Column("previous_hash", _SHA, nullable=False),
    Column("hash", _SHA, nullable=False),
    Index("entries_by_site", "site", "entry"),
    Index("entries_by_kind", "kind", "entry"),
    Index("entries_by_payload", "payload_sha256"),
)
buffered = Table(
    "buffered",
    metadata,
    Column("entry", BigInteger, ForeignKey("entries.entry"), primary_key=True, autoincrement=False),
    Column("site", _ID, ForeignKey("sites.id"), nullable=False),
    Column("staleness", BigInteger, nullable=False),
    Column("record_count", BigInteger, nullable=False),
    Column("norm", Float(53), nullable=False),
    Column("payload_sha256", _SHA, nullable=False),
    Column("encoding", String(16), nullable=False),
    Column("flushed_by", BigInteger),
    Column("coefficient", Float(53)),
    Column("voided_by", BigInteger),
    Index("buffered_by_site", "site", "flushed_by"),
    Index("buffered_waiting", "flushed_by", "voided_by"),
)
uploads = Table(
    "uploads",
    metadata,
    Column("update_id", _ID, primary_key=True),
    Column("sha256", _SHA, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("site", _ID, ForeignKey("sites.id")),
    Column("started_at", UtcTime, nullable=False),
)
quarantined = Table(
    "quarantined",
    metadata,
    Column("update_id", _ID, primary_key=True),
    Column("site", _ID, ForeignKey("sites.id"), nullable=False),
    Column("task", String(200), nullable=False),
    Column("base_version", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("exclusion_counter", BigInteger, nullable=False),
    Column("record_count", BigInteger, nullable=False),
    Column("train_loss", Float(53), nullable=False),
    Column("norm", Float(53), nullable=False),
    Column("norm_ratio", Float(53)),
    Column("cosine", Float(53)),
    Column("finding", Text, nullable=False),
    Column("payload_sha256", _SHA, nullable=False),
    Column("payload_bytes", BigInteger, nullable=False),
    Column("encoding", String(16), nullable=False),
    Column("state", words(QuarantineState), nullable=False),
    Column("arrived_at", UtcTime, nullable=False),
    Column("decided_at", UtcTime),
    Column("decision", Text, nullable=False),
    Column("entry", BigInteger),
    Column("key_id", String(128), nullable=False),
    Column("signature", Text, nullable=False),
    Index("quarantined_by_state", "state", "site"),
)
receipts = Table(
    "receipts",
    metadata,
    Column("update_id", _ID, primary_key=True),
    Column("outcome", words(Outcome), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("coefficient", Float(53), nullable=False),
    Column("staleness", BigInteger, nullable=False),
    Column("entry", BigInteger, nullable=False),
    Column("ledger_hash", String(64), nullable=False),
    Column("sha256", _SHA, nullable=False),
    Column("site", _ID, ForeignKey("sites.id")),
    Column("task", _ID),
    Column("size_bytes", BigInteger, nullable=False),
    Column("encoding", String(16), nullable=False),
    Column("accepted_at", UtcTime, nullable=False),
    Index("receipts_of_answers", "site", "outcome"),
)
erasures = Table(
    "erasures",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("request_id", String(200), nullable=False, unique=True),
    Column("site", _ID, ForeignKey("sites.id"), nullable=False, index=True),
    Column("legal_basis", String(200), nullable=False),
    Column("level", words(Level), nullable=False),
    Column("method", _ID, nullable=False),
    Column("calibrate", Boolean, nullable=False),
    Column("requester", String(200), nullable=False),
    Column("state", words(ErasureState), nullable=False, index=True),
    Column("requested_at", UtcTime, nullable=False),
    Column("fenced_at", UtcTime, nullable=False),
    Column("deadline", UtcTime, nullable=False),
    Column("state_since", UtcTime, nullable=False),
    Column("claimed_at", UtcTime),
    Column("removed_at", UtcTime),
    Column("promoted_at", UtcTime),
    Column("concluded_at", UtcTime),
    Column("promoted_version", BigInteger),
    Column("removal", RemovalJson),
    Column("evidence_json", Text, nullable=False),
    Column("failure", Text, nullable=False),
    Column("level_admitted", words(Level), nullable=False, server_default="L1"),
    Column("caveats", Json, nullable=False, server_default="[]"),
    Column("uncertifiable", Text, nullable=False, server_default=""),
    Column("records", String(128), nullable=False, server_default=""),
    Column("exclusion_counter", BigInteger, nullable=False, server_default="0"),
    Column("exchange", ExchangeJson),
    Column("requested_by", String(200), nullable=False, server_default=""),
    Column("approved_by", String(200), nullable=False, server_default=""),
    Column("share", Float(53), nullable=False, server_default="0"),
)
invitations = Table(
    "invitations",
    metadata,
    Column("token_sha256", _SHA, primary_key=True),
    Column("site", _ID, nullable=False, index=True),
    Column("invited_by", String(200), nullable=False),
    Column("invited_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
    Column("used_by_key", _SHA, nullable=False),
    Column("void", Boolean, nullable=False),
)
claims = Table(
    "claims",
    metadata,
    Column("erasure", _ID, ForeignKey("erasures.id"), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("lease_until", UtcTime, nullable=False),
    Column("progress_json", Text, nullable=False),
)
attempts = Table(
    "attempts",
    metadata,
    Column("erasure", _ID, ForeignKey("erasures.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("verdict", words(Verdict), nullable=False),
    Column("tests", Json, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("accepted_since_removal", BigInteger, nullable=False),
)
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("erasure", _ID, ForeignKey("erasures.id"), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("announced_at", UtcTime, index=True),
)
certificates = Table(
    "certificates",
    metadata,
    Column("erasure", _ID, ForeignKey("erasures.id"), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("signed_at", UtcTime, nullable=False),
)
tasks = Table(
    "tasks",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("request_id", String(200), nullable=False, index=True),
    Column("site", _ID, ForeignKey("sites.id"), nullable=False),
    Column("erasure", _ID, ForeignKey("erasures.id"), index=True),
    Column("kind", words(TaskKind), nullable=False),
    Column("payload", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("answer_kind", words(AnswerKind)),
    Column("answer", Json),
    Column("answered_at", UtcTime),
    Column("withdrawn_at", UtcTime),
    Index("tasks_waiting", "site", "answered_at", "withdrawn_at"),
)
model_files = Table(
    "model_files",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sha256", _SHA, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("written_at", UtcTime, nullable=False),
)
pins = Table(
    "pins",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String(200), primary_key=True),
)
destroyed_versions = Table(
    "destroyed_versions",
    metadata,
    Column("first_version", BigInteger, primary_key=True, autoincrement=False),
    Column("last_version", BigInteger, primary_key=True, autoincrement=False),
    Column("erasure", _ID, ForeignKey("erasures.id"), primary_key=True),
    Column("at", UtcTime, nullable=False),
)
destroyed_payloads = Table(
    "destroyed_payloads",
    metadata,
    Column("sha256", _SHA, primary_key=True),
    Column("erasure", _ID, ForeignKey("erasures.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
)
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sha256", _SHA, nullable=False),
    Column("written_at", UtcTime, nullable=False),
    Column("is_anchor", Boolean, nullable=False),
)
contributions = Table(
    "contributions",
    metadata,
    Column("site", _ID, ForeignKey("sites.id"), primary_key=True),
    Column("folded_through", BigInteger, nullable=False),
    Column("sha256", _SHA),
    Column("terms", BigInteger, nullable=False),
)
exports = Table(
    "exports",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("recipient", String(200), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("exported_at", UtcTime, nullable=False),
    Column("without", Json, nullable=False, server_default="[]"),
)
leadership = Table(
    "leadership",
    metadata,
    Column("name", _ID, primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("lease_until", UtcTime, nullable=False),
)
compactions = Table(
    "compactions",
    metadata,
    Column("through_entry", BigInteger, primary_key=True, autoincrement=False),
    Column("payloads", BigInteger, nullable=False),
    Column("freed_bytes", BigInteger, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("finished", Boolean, nullable=False),
)
