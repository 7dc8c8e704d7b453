"""Signing keys of a tenant's clients that the gateway believes no longer, because the tenant asked for it.

From then on no order that is signed by such a key becomes a job, and no evaluation key is put in use by its word. What came before
stays: jobs that wait still run, receipts stay what they are. What ends an evaluation key's use is still taken, whoever signs it: an
owner whose signing key was stolen must be able to say so.
"""

from sqlalchemy import bindparam, select, update

from blindgate_gateway.database import Database, Transaction, prepared
from blindgate_gateway.log.objects import signer_object
from blindgate_gateway.log.telling import COMMAND_LINE, tell
from blindgate_gateway.problems import not_found
from blindgate_gateway.tables import tenants
from blindgate_protocol.errors import RevokedSignerError
from blindgate_protocol.events import Action

_REVOKED = prepared(select(tenants.c.revoked_signers).where(tenants.c.name == bindparam("name")))
_REVOKE = prepared(
    update(tenants).where(tenants.c.name == bindparam("of_tenant")).values(revoked_signers=bindparam("signers"))
)


def revoke_signer(database: Database, tenant: str, key: str) -> None:
    """Believe a client's signing key no longer, from now on. Once more changes nothing. Raises `NotFoundError`."""
    with database.write() as connection:
        connection.alone("signers", tenant)
        row = connection.execute(_REVOKED, {"name": tenant}).first()
        if row is None:
            raise not_found(f"tenant: {tenant}")
        before = _signers(row.revoked_signers)
        if key in before:
            return
        connection.execute(_REVOKE, {"of_tenant": tenant, "signers": " ".join([*before, key])})
        details = {"kind": "client"}
        tell(
            connection,
            Action.SIGNER_REVOKED,
            signer_object(key),
            by=COMMAND_LINE,
            tenant=tenant,
            details=details,
            after="revoked",
        )


def require_unrevoked_signer(connection: Transaction, tenant: str, key: str) -> None:
    """Refuse what this client of a tenant signs. Raises `RevokedSignerError`."""
    row = connection.execute(_REVOKED, {"name": tenant}).first()
    if row is not None and key in _signers(row.revoked_signers):
        message = f"client {key} was revoked by its tenant: nothing new is begun by its word"
        raise RevokedSignerError(message)


def _signers(text: str | None) -> list[str]:
    return (text or "").split()
