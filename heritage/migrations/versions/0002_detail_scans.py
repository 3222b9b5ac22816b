"""detail scans."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not as a batch: that makes the table anew, and what belongs to the old one goes with it.
    op.add_column(
        "runs", sa.Column("detail", sa.Boolean(), server_default=sa.false(), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("runs", "detail")
