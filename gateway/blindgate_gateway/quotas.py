"""How many bytes a tenant has, and how many it may have.

What counts are its blobs, wherever they lie, and what its unfinished uploads will be when all has come. That much is reserved when
an upload is asked for, so many uploads at once cannot outrun the quota. The number is changed in the transaction that changes what
it counts, as the last thing in it, by one statement that also decides.

A node's result is counted and never refused: the work is done, and its tenant is told at the next thing that it wants to store.
"""

from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, update

from blindgate_gateway.database import Database, Transaction, prepared, upsert
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.tables import stored_bytes, tenants

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
        if connection.execute(_SET, {"tenant_name": tenant, "most": most}).rowcount != 1:
            what = "tenant"
            raise not_found(what)


def list_storage(database: Database) -> list[Storage]:
    """What each tenant has stored."""
    with database.read() as connection:
        return [Storage(row.name, row.bytes, row.quota) for row in connection.execute(_ALL).all()]
