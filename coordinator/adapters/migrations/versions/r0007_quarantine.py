"""Deltas that screening set aside."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quarantined",
        sa.Column("update_id", sa.String(64), primary_key=True),
        sa.Column("site", sa.String(64), sa.ForeignKey("sites.id"), nullable=False),
        sa.Column("task", sa.String(200), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("base_version", "epoch", "exclusion_counter", "record_count")
        ),
        sa.Column("train_loss", sa.Float(53), nullable=False),
        sa.Column("norm", sa.Float(53), nullable=False),
        sa.Column("norm_ratio", sa.Float(53)),
        sa.Column("cosine", sa.Float(53)),
        sa.Column("finding", sa.Text(), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("encoding", sa.String(16), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("arrived_at", sa.String(32), nullable=False),
        sa.Column("decided_at", sa.String(32)),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("entry", sa.BigInteger()),
        sa.Column("key_id", sa.String(128), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
    )
    op.create_index("quarantined_by_state", "quarantined", ["state", "site"])


def downgrade() -> None:
    op.drop_table("quarantined")
