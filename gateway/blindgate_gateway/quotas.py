"""How many bytes a tenant has, and how many it may have.

What counts are its blobs, wherever they lie, and what its unfinished uploads will be when all has come. That much is reserved when
an upload is asked for, so many uploads at once cannot outrun the quota. The number is changed in the transaction that changes what
it counts, as the last thing in it, by one statement that also decides.

A node's result is counted and never refused: the work is done, and its tenant is told at the next thing that it wants to store.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, bindparam, cast, func, select, update

from blindgate_gateway.database import Database, Transaction, prepared, upsert
from blindgate_gateway.log.objects import tenant_object
from blindgate_gateway.log.pseudonyms import pseudonym_of
from blindgate_gateway.log.telling import COMMAND_LINE, tell
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.tables import blobs, stored_bytes, tenants, uploads
from blindgate_protocol.events import Action

Limit: TypeAlias = Literal["quota", "in-flight"]
"""What a command sets for one tenant: bytes stored, or jobs that nodes have of it at once."""

AGAIN_SECONDS = 10.0
"""When a tenant beyond its quota may ask again: bytes go when somebody deletes them."""

_ADD = prepared(
    upsert(
        stored_bytes,
        lambda statement: statement.on_conflict_do_update(
            index_elements=["tenant"], set_={"bytes": stored_bytes.c.bytes + statement.excluded.bytes}
        ),
    ),
    "tenant",
    "bytes",
)
_BEGIN = prepared(upsert(stored_bytes, lambda statement: statement.on_conflict_do_nothing()), "tenant", "bytes")
_QUOTA = select(tenants.c.quota).where(tenants.c.name == bindparam("of_tenant")).scalar_subquery()
_RESERVE = prepared(
    update(stored_bytes)
    .where(
        stored_bytes.c.tenant == bindparam("of_tenant"),
        stored_bytes.c.bytes + bindparam("size") <= func.coalesce(_QUOTA, bindparam("default")),
    )
    .values(bytes=stored_bytes.c.bytes + bindparam("size"))
)
_SET = prepared(update(tenants).where(tenants.c.name == bindparam("tenant_name")).values(quota=bindparam("most")))
_LIMITS = prepared(select(tenants.c.quota, tenants.c.in_flight).where(tenants.c.name == bindparam("tenant_name")))
_ALL = prepared(
    select(tenants.c.name, func.coalesce(stored_bytes.c.bytes, 0).label("bytes"), tenants.c.quota)
    .outerjoin(stored_bytes, stored_bytes.c.tenant == tenants.c.name)
    .order_by(tenants.c.name)
)


@dataclass(frozen=True)
class Storage:
    """What a tenant has stored, in bytes, and what it may; `None` for the setting."""

    tenant: str
    stored: int
    quota: int | None


def really_stored(tenant: ColumnElement[str]) -> ColumnElement[int]:
    """How many bytes the tenant of an enclosing query has stored and reserved, added up."""
    stored = select(func.coalesce(func.sum(blobs.c.size), 0)).where(blobs.c.tenant == tenant)
    awaited = select(func.coalesce(func.sum(uploads.c.size), 0)).where(
        uploads.c.tenant == tenant, uploads.c.status == "parts"
    )
    return cast(stored.scalar_subquery() + awaited.scalar_subquery(), BigInteger)


def count(connection: Transaction, tenant: str, size: int) -> None:
    """Count `size` bytes more, or fewer."""
    connection.execute(_ADD, {"tenant": tenant, "bytes": size})


def reserve(connection: Transaction, tenant: str, size: int, *, default: int) -> None:
    """Count `size` bytes more if the tenant may have them; `default` where it has no quota of its own. Raises `GatewayError`."""
    wanted = {"of_tenant": tenant, "size": size, "default": default}
    if connection.execute(_RESERVE, wanted).rowcount == 1:
        return
    # Where nothing was counted yet, others may be making the row just now: this waits for theirs.
    connection.execute(_BEGIN, {"tenant": tenant, "bytes": 0})
    if connection.execute(_RESERVE, wanted).rowcount != 1:
        raise refusal("quota", f"{size} bytes more are beyond the tenant's quota", retry_after=AGAIN_SECONDS)


def set_quota(database: Database, tenant: str, most: int | None) -> None:
    """Let `tenant` have `most` bytes, or as many as the setting says. Raises `NotFoundError`."""
    with database.write() as connection:
        tell_limit(connection, tenant, "quota", most)
        connection.execute(_SET, {"tenant_name": tenant, "most": most})


def tell_limit(connection: Transaction, tenant: str, limit: Limit, most: int | None) -> None:
    """Tell the log of a limit that this transaction sets; `None` for the setting. Raises `NotFoundError`."""
    connection.alone("limits", tenant)
    row = connection.execute(_LIMITS, {"tenant_name": tenant}).first()
    if row is None:
        raise not_found(f"tenant: {tenant}")
    before: int | None = row.quota if limit == "quota" else row.in_flight
    details: dict[str, str] = {"limit": limit}
    details |= {name: str(value) for name, value in (("before", before), ("after", most)) if value is not None}
    what = tenant_object(pseudonym_of(connection, "tenant", tenant))
    tell(connection, Action.LIMITS_CHANGED, what, by=COMMAND_LINE, tenant=tenant, details=details)


def list_storage(database: Database) -> list[Storage]:
    """What each tenant has stored."""
    with database.read() as connection:
        return [Storage(row.name, row.bytes, row.quota) for row in connection.execute(_ALL).all()]
