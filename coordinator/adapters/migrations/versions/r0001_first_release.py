"""All tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    "tasks",
    "outbox",
    "destroyed_versions",
    "destroyed_payloads",
    "claims",
    "certificates",
    "buffered",
    "attempts",
    "uploads",
    "receipts",
    "erasures",
    "entries",
    "contributions",
    "sites",
    "pins",
    "model_files",
    "federation",
    "exports",
    "counters",
    "checkpoints",
)


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("written_at", sa.String(32), nullable=False),
        sa.Column("is_anchor", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_table(
        "counters",
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("outcome"),
    )
    op.create_table(
        "exports",
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("recipient", sa.String(200), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("exported_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "federation",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("plan_digest", sa.String(64), nullable=False),
        sa.Column("plan_json", sa.Text(), nullable=False),
        sa.Column("serving_version", sa.BigInteger(), nullable=True),
        sa.Column("withheld_version", sa.BigInteger(), nullable=True),
        sa.Column("serving_carries_subject", sa.Boolean(), nullable=False),
        sa.Column("candidate_version", sa.BigInteger(), nullable=True),
        sa.Column("candidate_since", sa.String(32), nullable=True),
        sa.Column("last_advance_entry", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "model_files",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("written_at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "pins",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("version", "reason"),
    )
    op.create_table(
        "sites",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("display_name", sa.String(200), nullable=False),
        sa.Column("record_count", sa.BigInteger(), nullable=False),
        sa.Column("registered_at", sa.String(32), nullable=False),
        sa.Column("last_seen_at", sa.String(32), nullable=False),
        sa.Column("accepted_deltas", sa.BigInteger(), nullable=False),
        sa.Column("first_version", sa.BigInteger(), nullable=True),
        sa.Column("last_version", sa.BigInteger(), nullable=True),
        sa.Column("erasure", sa.String(64), nullable=True),
        sa.Column("exclusion_counter", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "contributions",
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("folded_through", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("terms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.id"],
        ),
        sa.PrimaryKeyConstraint("site"),
    )
    op.create_table(
        "entries",
        sa.Column("entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("site", sa.String(64), nullable=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("update_id", sa.String(64), nullable=True),
        sa.Column("base_version", sa.BigInteger(), nullable=True),
        sa.Column("staleness", sa.BigInteger(), nullable=True),
        sa.Column("coefficient", sa.Float(precision=53), nullable=True),
        sa.Column("payload_sha256", sa.String(64), nullable=True),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=True),
        sa.Column("encoding", sa.String(16), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.id"],
        ),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index("entries_by_kind", "entries", ["kind", "entry"], unique=False)
    op.create_index("entries_by_site", "entries", ["site", "entry"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("legal_basis", sa.String(200), nullable=False),
        sa.Column("level", sa.String(32), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("calibrate", sa.Boolean(), nullable=False),
        sa.Column("requester", sa.String(200), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("requested_at", sa.String(32), nullable=False),
        sa.Column("fenced_at", sa.String(32), nullable=False),
        sa.Column("deadline", sa.String(32), nullable=False),
        sa.Column("state_since", sa.String(32), nullable=False),
        sa.Column("claimed_at", sa.String(32), nullable=True),
        sa.Column("removed_at", sa.String(32), nullable=True),
        sa.Column("promoted_at", sa.String(32), nullable=True),
        sa.Column("concluded_at", sa.String(32), nullable=True),
        sa.Column("promoted_version", sa.BigInteger(), nullable=True),
        sa.Column("removal", sa.Text(), nullable=True),
        sa.Column("evidence_json", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("request_id"),
    )
    op.create_index(op.f("ix_erasures_site"), "erasures", ["site"], unique=False)
    op.create_index(op.f("ix_erasures_state"), "erasures", ["state"], unique=False)
    op.create_table(
        "receipts",
        sa.Column("update_id", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("coefficient", sa.Float(precision=53), nullable=False),
        sa.Column("staleness", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("ledger_hash", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("site", sa.String(64), nullable=True),
        sa.Column("task", sa.String(64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("encoding", sa.String(16), nullable=False),
        sa.Column("accepted_at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.id"],
        ),
        sa.PrimaryKeyConstraint("update_id"),
    )
    op.create_index("receipts_of_answers", "receipts", ["site", "outcome"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("update_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("site", sa.String(64), nullable=True),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.id"],
        ),
        sa.PrimaryKeyConstraint("update_id"),
    )
    op.create_table(
        "attempts",
        sa.Column("erasure", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("tests", sa.Text(), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("accepted_since_removal", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.PrimaryKeyConstraint("erasure", "number"),
    )
    op.create_table(
        "buffered",
        sa.Column("entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("staleness", sa.BigInteger(), nullable=False),
        sa.Column("record_count", sa.BigInteger(), nullable=False),
        sa.Column("norm", sa.Float(precision=53), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("encoding", sa.String(16), nullable=False),
        sa.Column("flushed_by", sa.BigInteger(), nullable=True),
        sa.Column("coefficient", sa.Float(precision=53), nullable=True),
        sa.Column("voided_by", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["entry"],
            ["entries.entry"],
        ),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.id"],
        ),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index("buffered_by_site", "buffered", ["site", "flushed_by"], unique=False)
    op.create_index("buffered_waiting", "buffered", ["flushed_by", "voided_by"], unique=False)
    op.create_table(
        "certificates",
        sa.Column("erasure", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.PrimaryKeyConstraint("erasure"),
    )
    op.create_table(
        "claims",
        sa.Column("erasure", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.String(32), nullable=False),
        sa.Column("progress_json", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.PrimaryKeyConstraint("erasure"),
    )
    op.create_table(
        "destroyed_payloads",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("erasure", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "destroyed_versions",
        sa.Column("first_version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("erasure", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.PrimaryKeyConstraint("first_version", "last_version", "erasure"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("erasure", sa.String(64), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("announced_at", sa.String(32), nullable=True),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_outbox_announced_at"), "outbox", ["announced_at"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("erasure", sa.String(64), nullable=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("answer_kind", sa.String(32), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.String(32), nullable=True),
        sa.Column("withdrawn_at", sa.String(32), nullable=True),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.ForeignKeyConstraint(
            ["site"],
            ["sites.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_tasks_erasure"), "tasks", ["erasure"], unique=False)
    op.create_index(op.f("ix_tasks_request_id"), "tasks", ["request_id"], unique=False)
    op.create_index("tasks_waiting", "tasks", ["site", "answered_at", "withdrawn_at"], unique=False)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
