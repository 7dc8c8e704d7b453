"""Events of an action, and of a window of time, are found without reading all of them.

Revision: 0016, from 0015.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TIMES = """
UPDATE log_tiles SET
    earliest = (SELECT min(time) FROM events WHERE position >= number * 256 AND position < (number + 1) * 256),
    latest = (SELECT max(time) FROM events WHERE position >= number * 256 AND position < (number + 1) * 256)
WHERE level = 1
"""


def upgrade() -> None:
    """Step forward."""
    placed = sa.text("position IS NOT NULL")
    op.create_index(
        "ix_events_action_position", "events", ["action", "position"], sqlite_where=placed, postgresql_where=placed
    )
    op.add_column("log_tiles", sa.Column("earliest", sa.BigInteger(), nullable=True))
    op.add_column("log_tiles", sa.Column("latest", sa.BigInteger(), nullable=True))
    op.execute(_TIMES)
