"""Corpora: a tenant's named heads, and the blobs that each of them needs.

Revision: 0023, from 0022. On PostgreSQL a tenant sees and changes its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_RULES = """
GRANT SELECT, INSERT, UPDATE, DELETE ON corpora TO blindgate_tenant;
GRANT SELECT, INSERT, DELETE ON corpus_blobs TO blindgate_tenant;
ALTER TABLE corpora ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON corpora TO blindgate_tenant USING (tenant = current_setting('blindgate.tenant', true));
ALTER TABLE corpus_blobs ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON corpus_blobs TO blindgate_tenant USING (tenant = current_setting('blindgate.tenant', true));
"""


def upgrade() -> None:
    """Step forward."""
    op.create_table(
        "corpora",
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("head", sa.String, nullable=False),
        sa.Column("blobs", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "corpus_blobs",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "name"], ["corpora.tenant", "corpora.name"]),
    )
    op.create_index("ix_corpus_blobs_tenant_digest", "corpus_blobs", ["tenant", "digest"])
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(_RULES)
