"""Row-level security on PostgreSQL: is it as migrations 0009 and 0011 made it.

A dump has the rules and not the role that they are for, so a restored database may be without either; and a rule that somebody
dropped is missed by nobody, since the queries hold without it.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import text

from blindgate_gateway.check.findings import Finding, fault, well
from blindgate_gateway.database import Transaction
from blindgate_gateway.tables import metadata

_OUT_OF_REACH: Final = frozenset(
    {"api_keys", "cosignatures", "enrolment_tokens", "gateways", "log_head", "log_tiles", "nodes", "nonces", "sessions"}
)
_POLICIES: Final = frozenset(
    {("manifests", "everybody"), ("manifests", "publisher"), ("blobs", "published"), ("events", "told")}
    | {(name, "tenant") for name in metadata.tables if name not in _OUT_OF_REACH | {"manifests"}}
)
_MAKE: Final = (
    "run as an administrator: CREATE ROLE blindgate_tenant NOLOGIN; GRANT blindgate_tenant TO the gateway's role"
)
_AGAIN: Final = (
    "somebody changed the rules by hand: undo it; migrations 0009 (0009_row_security.py) and 0011 have the statements"
)

_ROLE: Final = text(
    # Since PostgreSQL 16 a member may be one that may not become the role.
    "SELECT pg_has_role(current_user, oid, "
    "CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) AS is_ours "
    "FROM pg_roles WHERE rolname = 'blindgate_tenant'"
)
_TABLES: Final = text(
    "SELECT relname AS name, relrowsecurity AS guarded, has_table_privilege('blindgate_tenant', pg_class.oid, 'SELECT') AS seen "
    "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = current_schema() AND relkind = 'r'"
)
_RULES: Final = text(
    "SELECT tablename AS name, policyname AS policy FROM pg_policies WHERE schemaname = current_schema()"
)


def look(connection: Transaction) -> Iterator[Finding]:
    """Check that a tenant's requests see that tenant's rows alone."""
    role = connection.execute(_ROLE).first()
    if role is None or not role.is_ours:
        yield fault(
            "rules", "no tenant's request can be answered: the role blindgate_tenant is missing, or not ours", _MAKE
        )
        return
    wrong = []
    for table in connection.execute(_TABLES).all():
        if table.name not in metadata.tables:
            continue
        if table.name in _OUT_OF_REACH:
            wrong += [f"{table.name} can be read in a tenant's name"] if table.seen else []
        elif not (table.guarded and table.seen):
            wrong.append(f"{table.name} {'is out of reach' if table.guarded else 'shows every row'}")
    found = {(rule.name, rule.policy) for rule in connection.execute(_RULES).all()}
    wrong += [f"{table} has no rule {policy!r}" for table, policy in sorted(_POLICIES - found)]
    wrong += [f"{table} has a rule {policy!r} that is not ours" for table, policy in sorted(found - _POLICIES)]
    if wrong:
        yield fault("rules", "row-level security is not as it was made", _AGAIN, *wrong)
    else:
        yield well("rules", "a tenant's requests see that tenant's rows alone")
