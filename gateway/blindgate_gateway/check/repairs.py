"""What can be set right without knowing more than the database does: counts, and which jobs are held back.

Both beside running gateways. Whoever changes what is counted changes the count last, in the same transaction; so with the count's
row locked, what others have committed is in the sum, and what they have not is added when they get the row.
"""

from sqlalchemy import bindparam, case, exists, select, update

from blindgate_gateway.check.rows import REALLY_STORED
from blindgate_gateway.database import Database, prepared, upsert
from blindgate_gateway.tables import jobs, keys, stored_bytes, tenants
from blindgate_protocol.keys import HOLDING

_TENANTS = prepared(select(tenants.c.name))
_BEGIN = prepared(
    upsert(stored_bytes, lambda statement: statement.values(bytes=0).on_conflict_do_nothing()),
    "tenant",
)
_LOCK = prepared(select(stored_bytes.c.bytes).where(stored_bytes.c.tenant == bindparam("of_tenant")).with_for_update())
_SUM = prepared(select(REALLY_STORED.label("really")).where(tenants.c.name == bindparam("of_tenant")))
_SET = prepared(
    update(stored_bytes).where(stored_bytes.c.tenant == bindparam("of_tenant")).values(bytes=bindparam("really"))
)
_IS_HELD = exists().where(
    keys.c.tenant == jobs.c.tenant, keys.c.digest == jobs.c.evaluation_key, keys.c.state.in_(sorted(HOLDING))
)
_HELD = case((_IS_HELD, 1), else_=0)
_HOLD = prepared(update(jobs).where(jobs.c.evaluation_key.is_not(None), jobs.c.held != _HELD).values(held=_HELD))


def repair(database: Database) -> list[str]:
    """Count every tenant's bytes again, and hold back what must be. Gives what was changed, in words."""
    done = []
    with database.read() as connection:
        names = connection.execute(_TENANTS).scalars()
    for name in names:
        with database.write() as connection:
            connection.execute(_BEGIN, {"tenant": name})
            counted = connection.execute(_LOCK, {"of_tenant": name}).scalar()
            really = int(connection.execute(_SUM, {"of_tenant": name}).scalar())
            if counted != really:
                connection.execute(_SET, {"of_tenant": name, "really": really})
                done.append(f"tenant {name}: {really} bytes are counted, not {counted}")
    with database.write() as connection:
        held = connection.execute(_HOLD).rowcount
    if held:
        done.append(f"{held} jobs are held back, or not any more, as their keys say")
    return done
