"""Erasures of records at a site that stays."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Every erasure before this release names a whole site.
    records = sa.Column("records", sa.String(length=128), nullable=False, server_default="")
    op.add_column("erasures", records)
    counter = sa.Column("exclusion_counter", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("erasures", counter)
    op.add_column("erasures", sa.Column("exchange", sa.Text()))


def downgrade() -> None:
    for name in ("records", "exclusion_counter", "exchange"):
        op.drop_column("erasures", name)
