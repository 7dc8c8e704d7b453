"""Small blobs lie in their row.

Revision: 0002, from 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.add_column("blobs", sa.Column("data", sa.LargeBinary(), nullable=True))
