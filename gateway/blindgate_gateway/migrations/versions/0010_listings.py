"""Jobs are listed by the time of their submission without reading all of them.

Revision: 0010, from 0009.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Step forward."""
    op.create_index("ix_jobs_submitted_job", "jobs", ["submitted", "job"])
    op.create_index("ix_ended_jobs_submitted_job", "ended_jobs", ["submitted", "job"])
