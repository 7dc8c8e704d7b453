"""Tenants may revoke signing keys of their clients.

Revision: 0014, from 0013.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.add_column("tenants", sa.Column("revoked_signers", sa.Text(), nullable=True))
