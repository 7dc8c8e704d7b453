"""Rows that each tenant has asked for of each model.

Revision: 0003, from 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.create_table(
        "rows_asked",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("publisher", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_rows_asked_tenant")),
        sa.PrimaryKeyConstraint("tenant", "publisher", "model", name=op.f("pk_rows_asked")),
    )
