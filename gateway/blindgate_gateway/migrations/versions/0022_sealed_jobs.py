"""Sealed jobs: keys that are wrapped for nodes, and answers that are read while they are written.

Revision: 0022, from 0020. On PostgreSQL a tenant reads its own answers; nodes write them as the tables' owner.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0020"
branch_labels = None
depends_on = None

_RULES = """
GRANT SELECT ON answer_parts TO blindgate_tenant;
ALTER TABLE answer_parts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON answer_parts FOR SELECT TO blindgate_tenant USING (tenant = current_setting('blindgate.tenant', true));
"""


def upgrade() -> None:
    """Step forward."""
    op.add_column("job_documents", sa.Column("seal", sa.Text))
    op.create_table(
        "answer_parts",
        sa.Column("job", sa.String, primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("begin", sa.BigInteger, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("stored", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_answer_parts_stored", "answer_parts", ["stored"])
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(_RULES)
