"""how the heat of a photo was made."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RUNS = sa.table("runs", sa.column("id"), sa.column("detail", sa.Boolean))
INSPECTIONS = sa.table(
    "inspections",
    *(sa.column(name) for name in ("run_id", "damage_percent", "warnings", "method")),
)


def upgrade() -> None:
    op.add_column(
        "inspections", sa.Column("method", sa.String(32), server_default="", nullable=False)
    )
    scans = sa.select(RUNS.c.id).where(RUNS.c.detail)
    given_up = sa.cast(INSPECTIONS.c.warnings, sa.Text).contains("No detail scan: ")
    scanned = INSPECTIONS.c.run_id.in_(scans) & ~given_up
    op.execute(
        INSPECTIONS.update()
        .where(INSPECTIONS.c.damage_percent.is_not(None))
        .values(method=sa.case((scanned, "detail_scan"), else_="grad_cam"))
    )


def downgrade() -> None:
    op.drop_column("inspections", "method")
