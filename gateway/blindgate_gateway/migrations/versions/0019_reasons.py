"""Reasons: what opens the log's commitment to a node's words about an attempt.

Revision: 0019, from 0018.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.add_column("attempts", sa.Column("salt", sa.String))
