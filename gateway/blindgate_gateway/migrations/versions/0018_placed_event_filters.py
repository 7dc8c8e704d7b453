"""Events of an object and of a tenant are found once they have their place: until then they cost no entry in an index.

Revision: 0018, from 0017.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    placed = sa.text("position IS NOT NULL")
    for column in ("object", "tenant"):
        op.drop_index(f"ix_events_{column}_id", "events")
        op.create_index(
            f"ix_events_{column}_position",
            "events",
            [column, "position"],
            sqlite_where=placed,
            postgresql_where=placed,
        )
