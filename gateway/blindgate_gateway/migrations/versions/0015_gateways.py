"""Gateways: which of them work on this database, and whom each believes.

Revision: 0015, from 0014. On PostgreSQL the tenants' role has no right to the table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
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
