"""API keys with scopes, an end, and a last use; keys of the gateway's own staff.

Revision: 0007, from 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    with op.batch_alter_table("api_keys") as batch:
        batch.alter_column("scope", new_column_name="scopes")
        batch.alter_column("tenant", existing_type=sa.String(), nullable=True)
        batch.add_column(sa.Column("staff", sa.String(), nullable=True))
        batch.add_column(sa.Column("expires", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("used", sa.BigInteger(), nullable=True))
    op.execute("UPDATE api_keys SET scopes = 'jobs' WHERE scopes = 'tenant'")
