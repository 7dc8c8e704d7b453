"""Sessions: who signed in to the auditors' console.

Revision: 0013, from 0012. On PostgreSQL the tenants' role has no right to the table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String, primary_key=True),
        sa.Column("api_key", sa.String, sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_sessions_api_key", "sessions", ["api_key"])
