"""The log: events, their places in the tree, its head, and pseudonyms for who is already there.

Revision: 0011, from 0010. On PostgreSQL the tenants' role may add events and see its own.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_RULES = """
GRANT SELECT, INSERT ON pseudonyms, events TO blindgate_tenant;
GRANT USAGE ON SEQUENCE events_id_seq TO blindgate_tenant;
ALTER TABLE pseudonyms ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON pseudonyms TO blindgate_tenant
    USING (kind = 'tenant' AND name = current_setting('blindgate.tenant', true));
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON events FOR SELECT TO blindgate_tenant USING (tenant = (
    SELECT pseudonym FROM pseudonyms WHERE kind = 'tenant' AND name = current_setting('blindgate.tenant', true)));
CREATE POLICY told ON events FOR INSERT TO blindgate_tenant WITH CHECK (position IS NULL);
"""


def upgrade() -> None:
    """Step forward."""
    op.create_table(
        "pseudonyms",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("pseudonym", sa.String, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_pseudonyms_pseudonym", "pseudonyms", ["pseudonym"], unique=True)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("position", sa.BigInteger),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("object", sa.String, nullable=False),
        sa.Column("tenant", sa.String),
        sa.Column("commitment", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("salt", sa.LargeBinary),
    )
    placed, pending = sa.text("position IS NOT NULL"), sa.text("position IS NULL")
    op.create_index(
        "ix_events_position", "events", ["position"], unique=True, sqlite_where=placed, postgresql_where=placed
    )
    op.create_index("ix_events_pending", "events", ["id"], sqlite_where=pending, postgresql_where=pending)
    op.create_index("ix_events_object_id", "events", ["object", "id"])
    op.create_index("ix_events_tenant_id", "events", ["tenant", "id"])
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("second", sa.Text),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("signed", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "log_tiles",
        sa.Column("level", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "cosignatures",
        sa.Column("size", sa.BigInteger, primary_key=True),
        sa.Column("witness", sa.String, primary_key=True),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
    )
    connection = op.get_bind()
    table = sa.table("pseudonyms", *(sa.column(name) for name in ("kind", "name", "pseudonym", "created")))
    names = [*connection.execute(sa.text("SELECT 'tenant' AS kind, name FROM tenants"))]
    names += [*connection.execute(sa.text("SELECT DISTINCT 'staff', staff FROM api_keys WHERE staff IS NOT NULL"))]
    for kind, name in names:
        row = {"kind": kind, "name": name, "pseudonym": f"{kind}-{secrets.token_hex(16)}", "created": 0}
        connection.execute(sa.insert(table).values(**row))
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_RULES)
