"""Attestations: questions for evidence, and what nodes answered, for a minute each.

Revision: 0020, from 0019. On PostgreSQL a tenant asks and sees its own; what nodes do is done as the tables' owner.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_RULES = """
GRANT SELECT, INSERT ON attestations TO blindgate_tenant;
GRANT SELECT ON attestation_answers TO blindgate_tenant;
ALTER TABLE attestations ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON attestations TO blindgate_tenant USING (tenant = current_setting('blindgate.tenant', true));
ALTER TABLE attestation_answers ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON attestation_answers FOR SELECT TO blindgate_tenant
    USING (tenant = current_setting('blindgate.tenant', true));
"""


def upgrade() -> None:
    """Step forward."""
    op.create_table(
        "attestations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, sa.ForeignKey("tenants.name"), nullable=False),
        sa.Column("model", sa.String, sa.ForeignKey("manifests.digest"), nullable=False),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("node", sa.String),
        sa.Column("asked", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_attestations_tenant_asked", "attestations", ["tenant", "asked"])
    op.create_index("ix_attestations_asked", "attestations", ["asked"])
    op.create_table(
        "attestation_answers",
        sa.Column("attestation", sa.String, primary_key=True),
        sa.Column("node", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("taken", sa.BigInteger, nullable=False),
        sa.Column("place", sa.Integer),
        sa.Column("recipient", sa.Text),
        sa.Column("evidence", sa.LargeBinary),
        sa.Column("code", sa.String),
        sa.Column("reason", sa.Text),
    )
    op.create_index("ix_attestation_answers_node_tenant", "attestation_answers", ["node", "tenant"])
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(_RULES)
