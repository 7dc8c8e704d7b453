"""Nodes sign their requests: their tokens go, and nonces are kept.

Revision: 0006, from 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_JOBS = ("jobs", "ended_jobs")


def upgrade() -> None:
    """Step forward."""
    op.create_table(
        "nonces",
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", "nonce", name=op.f("pk_nonces")),
    )
    op.create_index("ix_nonces_until", "nonces", ["until"])
    # SQLite makes the table anew, and drops no table that a row refers to: the jobs let go of their nodes meanwhile.
    sqlite = op.get_bind().dialect.name == "sqlite"
    if sqlite:
        for table in _JOBS:
            op.execute(f"CREATE TABLE old_{table} AS SELECT job, node FROM {table} WHERE node IS NOT NULL")  # noqa: S608
            op.execute(f"UPDATE {table} SET node = NULL WHERE node IS NOT NULL")  # noqa: S608
    with op.batch_alter_table("nodes") as batch:
        batch.drop_constraint("uq_nodes_token", type_="unique")
        batch.drop_column("token")
        batch.drop_column("secret_hash")
    if sqlite:
        for table in _JOBS:
            op.execute(
                f"UPDATE {table} SET node = (SELECT old.node FROM old_{table} AS old WHERE old.job = {table}.job) "  # noqa: S608
                f"WHERE job IN (SELECT job FROM old_{table})"
            )
            op.drop_table(f"old_{table}")
