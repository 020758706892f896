"""Leadership, compactions, and exports of versions rebuilt without a site."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leadership",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "compactions",
        sa.Column("through_entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payloads", sa.BigInteger(), nullable=False),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("through_entry"),
    )
    op.add_column("exports", sa.Column("without", sa.Text(), nullable=False, server_default="[]"))
    op.create_index("entries_by_payload", "entries", ["payload_sha256"])


def downgrade() -> None:
    op.drop_index("entries_by_payload", "entries")
    op.drop_column("exports", "without")
    op.drop_table("compactions")
    op.drop_table("leadership")
