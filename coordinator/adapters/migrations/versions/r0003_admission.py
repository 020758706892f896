"""What a site says of its records, and with which caveats an erasure was admitted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SITES = ("control_records", "class_counts")
_ERASURES = ("level_admitted", "caveats", "uncertifiable")


def upgrade() -> None:
    op.add_column("sites", sa.Column("control_records", sa.BigInteger()))
    op.add_column("sites", sa.Column("class_counts", sa.Text()))
    # Every erasure before this release was asked for, and may be granted, at L1.
    level = sa.Column("level_admitted", sa.String(length=32), nullable=False, server_default="L1")
    op.add_column("erasures", level)
    op.add_column("erasures", sa.Column("caveats", sa.Text(), nullable=False, server_default="[]"))
    why = sa.Column("uncertifiable", sa.Text(), nullable=False, server_default="")
    op.add_column("erasures", why)


def downgrade() -> None:
    for name in _ERASURES:
        op.drop_column("erasures", name)
    for name in _SITES:
        op.drop_column("sites", name)
