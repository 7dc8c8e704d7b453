"""Queues by tenant, and ended jobs out of the way of those that wait.

Revision: 0004, from 0003.
"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OF_BOTH = """job, tenant, manifest, input_digest, evaluation_key, submitted, deadline, generation, token, node,
    result_digest, result_size"""


def upgrade() -> None:
    """Step forward."""
    op.add_column("tenants", sa.Column("served", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("tenants", sa.Column("in_flight", sa.Integer(), nullable=True))
    # A job's texts outlive its row in `jobs`.
    for table in ("job_documents", "attempts"):
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(f"fk_{table}_job", type_="foreignkey")
    op.execute("CREATE TABLE old_jobs AS SELECT * FROM jobs")
    op.execute("CREATE TABLE old_operators AS SELECT * FROM job_operators")
    op.drop_table("job_operators")
    op.drop_table("jobs")
    _make_tables()
    _fill()
    op.drop_table("old_operators")
    op.drop_table("old_jobs")


def _fill() -> None:
    connection = op.get_bind()
    queues: dict[tuple[str, str, tuple[str, ...]], str] = {}
    waiting = connection.execute(sa.text("SELECT job, tenant, family FROM old_jobs WHERE ended IS NULL")).all()
    of_job = sa.text("SELECT operator FROM old_operators WHERE job = :job ORDER BY operator")
    add = sa.text(
        f"INSERT INTO jobs (queue, state, leased_until, {_OF_BOTH}) "  # noqa: S608  (column names)
        f"SELECT :queue, state, leased_until, {_OF_BOTH} FROM old_jobs WHERE job = :job"
    )
    for job, tenant, family in waiting:
        operators = tuple(connection.execute(of_job, {"job": job}).scalars())
        key = (tenant, family, operators)
        if key not in queues:
            queues[key] = hashlib.sha256(json.dumps([tenant, family, operators]).encode()).hexdigest()[:32]
            named = {"id": queues[key], "tenant": tenant, "family": family}
            connection.execute(sa.text("INSERT INTO queues (id, tenant, family) VALUES (:id, :tenant, :family)"), named)
            for operator in operators:
                connection.execute(
                    sa.text("INSERT INTO queue_operators (queue, operator) VALUES (:queue, :operator)"),
                    {"queue": queues[key], "operator": operator},
                )
        connection.execute(add, {"queue": queues[key], "job": job})
    op.execute(
        "UPDATE jobs SET held = 1 WHERE EXISTS (SELECT 1 FROM keys WHERE keys.tenant = jobs.tenant "
        "AND keys.digest = jobs.evaluation_key AND keys.state = 'suspended')"
    )
    op.execute(
        f"INSERT INTO ended_jobs (state, ended, {_OF_BOTH}) "  # noqa: S608  (column names)
        f"SELECT state, ended, {_OF_BOTH} FROM old_jobs WHERE ended IS NOT NULL"
    )


def _make_tables() -> None:
    op.create_table(
        "queues",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("family", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_queues_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queues")),
    )
    op.create_table(
        "queue_operators",
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["queue"], ["queues.id"], name=op.f("fk_queue_operators_queue"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("queue", "operator", name=op.f("pk_queue_operators")),
    )
    op.create_table(
        "jobs",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("held", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("manifest", sa.String(), nullable=False),
        sa.Column("input_digest", sa.String(), nullable=False),
        sa.Column("evaluation_key", sa.String(), nullable=True),
        sa.Column("submitted", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("spent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("node", sa.String(), nullable=True),
        sa.Column("leased_until", sa.BigInteger(), nullable=True),
        sa.Column("result_digest", sa.String(), nullable=True),
        sa.Column("result_size", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["manifest"], ["manifests.digest"], name=op.f("fk_jobs_manifest")),
        sa.ForeignKeyConstraint(["node"], ["nodes.key"], name=op.f("fk_jobs_node")),
        sa.ForeignKeyConstraint(["queue"], ["queues.id"], name=op.f("fk_jobs_queue")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_jobs_tenant")),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_jobs")),
    )
    queued, leased = sa.text("state = 'queued' AND held = 0"), sa.text("state = 'leased'")
    keyed = sa.text("evaluation_key IS NOT NULL")
    indexes: tuple[tuple[str, list[str], sa.TextClause | None], ...] = (
        ("ix_jobs_queue", ["queue", "rank", "submitted", "job"], queued),
        ("ix_jobs_evaluation_key", ["evaluation_key", "queue", "rank", "submitted"], keyed),
        ("ix_jobs_leased", ["tenant", "leased_until"], leased),
        ("ix_jobs_deadline", ["deadline"], None),
        ("ix_jobs_tenant_submitted", ["tenant", "submitted"], None),
        ("ix_jobs_input_digest", ["input_digest"], None),
    )
    for name, columns, where in indexes:
        op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "ended_jobs",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("manifest", sa.String(), nullable=False),
        sa.Column("input_digest", sa.String(), nullable=False),
        sa.Column("evaluation_key", sa.String(), nullable=True),
        sa.Column("submitted", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("node", sa.String(), nullable=True),
        sa.Column("result_digest", sa.String(), nullable=True),
        sa.Column("result_size", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["manifest"], ["manifests.digest"], name=op.f("fk_ended_jobs_manifest")),
        sa.ForeignKeyConstraint(["node"], ["nodes.key"], name=op.f("fk_ended_jobs_node")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_ended_jobs_tenant")),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_ended_jobs")),
    )
    op.create_index("ix_ended_jobs_tenant_submitted", "ended_jobs", ["tenant", "submitted"])
    op.create_index("ix_ended_jobs_state_submitted", "ended_jobs", ["state", "submitted"])
    op.create_index("ix_ended_jobs_ended", "ended_jobs", ["ended"])
