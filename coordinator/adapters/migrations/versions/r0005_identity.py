"""Who asked for an erasure and who consented, and the invitations of sites."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WHO = ("requested_by", "approved_by")


def upgrade() -> None:
    # Of erasures before this release nobody proved who asked.
    for name in _WHO:
        column = sa.Column(name, sa.String(length=200), nullable=False, server_default="")
        op.add_column("erasures", column)
    share = sa.Column("share", sa.Float(53), nullable=False, server_default="0")
    op.add_column("erasures", share)
    op.create_table(
        "invitations",
        sa.Column("token_sha256", sa.String(length=64), primary_key=True),
        sa.Column("site", sa.String(length=64), nullable=False, index=True),
        sa.Column("invited_by", sa.String(length=200), nullable=False),
        sa.Column("invited_at", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.Column("used_at", sa.String(length=32)),
        sa.Column("used_by_key", sa.String(length=64), nullable=False),
        sa.Column("void", sa.Boolean(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("invitations")
    for name in (*_WHO, "share"):
        op.drop_column("erasures", name)
