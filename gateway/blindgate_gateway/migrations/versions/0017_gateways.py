"""Gateways: which of them work on this database, and whom each believes.

Revision: 0017, from 0016. On PostgreSQL the tenants' role has no right to the table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.create_table(
        "gateways",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("publishers", sa.Text, nullable=False),
        sa.Column("operators", sa.Text, nullable=False),
        sa.Column("kept", sa.Text, nullable=False),
    )
