"""People who sign in elsewhere may have sessions at the auditors' console.

Revision: 0015, from 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    with op.batch_alter_table("sessions") as batch:
        batch.alter_column("api_key", existing_type=sa.String(), nullable=True)
        batch.add_column(sa.Column("person", sa.String(), nullable=True))
        batch.add_column(sa.Column("grounds", sa.Text(), nullable=True))
        batch.add_column(sa.Column("expires", sa.BigInteger(), nullable=True))
    op.create_index("ix_sessions_person", "sessions", ["person"])
