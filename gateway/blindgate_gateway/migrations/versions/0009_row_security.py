"""On PostgreSQL, what is done in a tenant's name sees and changes that tenant's rows alone.

Revision: 0009, from 0008. Changes nothing on SQLite.

Transactions in a tenant's name run under the role `blindgate_tenant`, with the tenant's name in the setting `blindgate.tenant`
(`database.postgresql`). The role may do what the tenants' routes do and no more: it cannot read credentials, nodes' certificates or
nonces. All that the gateway does for nodes, its staff and itself runs as the tables' owner, for whom these rules do not hold.
A role belongs to the server, not to one database; several gateways on one server share it.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ROLE = """
DO $$
DECLARE
    before text := current_setting('role');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'blindgate_tenant') THEN
        BEGIN
            CREATE ROLE blindgate_tenant NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;  -- another gateway's migration was quicker
            WHEN insufficient_privilege THEN RAISE EXCEPTION
                'the role % may not make roles: let an administrator run CREATE ROLE blindgate_tenant NOLOGIN; '
                'GRANT blindgate_tenant TO %', current_user, current_user;
        END;
    END IF;
    -- Tried, not asked: since PostgreSQL 16 whoever makes a role is a member of it and still may not become it.
    BEGIN
        SET LOCAL ROLE blindgate_tenant;
        PERFORM set_config('role', before, true);
    EXCEPTION WHEN insufficient_privilege THEN
        BEGIN
            EXECUTE format('GRANT blindgate_tenant TO %I', current_user);
        EXCEPTION
            WHEN insufficient_privilege THEN RAISE EXCEPTION
                'the role % is no member of blindgate_tenant: let an administrator run GRANT blindgate_tenant TO %',
                current_user, current_user;
        END;
    END;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO blindgate_tenant', current_schema());
END
$$
"""
_MINE = "= current_setting('blindgate.tenant', true)"
_GRANTS = {
    "SELECT": "tenants",
    "SELECT (key, name)": "nodes",
    "SELECT, INSERT": "manifests, queues, queue_operators, key_statements, ended_jobs, attempts",
    "SELECT, INSERT, UPDATE": "keys, rows_asked, stored_bytes, job_documents",
    "SELECT, INSERT, UPDATE, DELETE": "blobs, uploads, jobs, idempotency",
}
_OWN = {
    "tenants": f"name {_MINE}",
    "idempotency": f"caller {_MINE}",
    **dict.fromkeys(
        ("blobs", "uploads", "stored_bytes", "rows_asked", "keys", "key_statements", "queues", "jobs", "ended_jobs"),
        f"tenant {_MINE}",
    ),
    # What these belong to is visible, or it is not: the rules of those tables decide.
    "queue_operators": "EXISTS (SELECT FROM queues WHERE queues.id = queue)",
    "job_documents": "EXISTS (SELECT FROM jobs WHERE jobs.job = job_documents.job)"
    " OR EXISTS (SELECT FROM ended_jobs WHERE ended_jobs.job = job_documents.job)",
    "attempts": "EXISTS (SELECT FROM jobs WHERE jobs.job = attempts.job)"
    " OR EXISTS (SELECT FROM ended_jobs WHERE ended_jobs.job = attempts.job)",
}
_SHARED = """
ALTER TABLE manifests ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON manifests FOR SELECT TO blindgate_tenant USING (true);
CREATE POLICY publisher ON manifests FOR INSERT TO blindgate_tenant WITH CHECK (tenant = current_setting('blindgate.tenant', true));
CREATE POLICY published ON blobs FOR SELECT TO blindgate_tenant USING (EXISTS (
    SELECT FROM manifests WHERE manifests.tenant = blobs.tenant AND manifests.client_digest = blobs.digest));
"""


def upgrade() -> None:
    """Step forward."""
    if op.get_bind().dialect.name != "postgresql":
        return
    rules = [f"GRANT {rights} ON {tables} TO blindgate_tenant;" for rights, tables in _GRANTS.items()]
    for table, rule in _OWN.items():
        rules.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;")
        rules.append(f"CREATE POLICY tenant ON {table} TO blindgate_tenant USING ({rule});")
    connection = op.get_bind()
    connection.exec_driver_sql(_ROLE.replace("%", "%%"))
    connection.exec_driver_sql("\n".join(rules) + _SHARED)
