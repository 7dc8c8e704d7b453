"""Keys may have a time at which they are destroyed.

Revision: 0012, from 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.add_column("keys", sa.Column("destroy_at", sa.BigInteger(), nullable=True))
    where = sa.text("destroy_at IS NOT NULL")
    op.create_index("ix_keys_destroy_at", "keys", ["destroy_at"], sqlite_where=where, postgresql_where=where)
