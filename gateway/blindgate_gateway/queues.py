"""Whose turn it is: which job a node gets next.

A queue holds the jobs of one tenant, for one family, that the same takers may compute: operators, with all of their nodes, or, of
sealed requests, single nodes. A node may take all of a queue or nothing, so its head is found by one step in an index, however
long it is. Among the queues that a node may take from, the next is that of the
tenant

1. who has fewest jobs leased now, and fewer than it may have at once;
2. who was served longest ago, among those. A time that has not come yet is no such time: the clock was set back since.

So a tenant with ten thousand waiting jobs delays another's first one by no more than the job that a node is at. Within a tenant the
higher priority goes first, then the earlier one; a job under a key that the node has in memory goes before others of its queue
that are as urgent.

`choose` is a look, and may be wrong by the time that anything is done about it; `transitions.claim` takes what is there then.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam, case, exists, func, insert, literal_column, select, update

from blindgate_gateway.database import Database, Row, Transaction, clock, prepared, upsert
from blindgate_gateway.quotas import tell_limit
from blindgate_gateway.tables import jobs, nodes, queue_operators, queues, tenants
from blindgate_protocol.errors import PolicyError
from blindgate_protocol.jobs import queue_id

# Literals, not parameters: a partial index is used only for a condition that the planner can read.
LEASED = jobs.c.state == literal_column("'leased'")
_head = jobs.alias("head")
_waiting = jobs.alias("waiting")
_READY = (
    (_waiting.c.state == literal_column("'queued'"))
    & (_waiting.c.held == literal_column("0"))
    & (_waiting.c.deadline > clock())
)
_FIRST = (
    select(_waiting.c.job)
    .where(_waiting.c.queue == queues.c.id, _READY)
    .order_by(_waiting.c.rank, _waiting.c.submitted, _waiting.c.job)
    .limit(1)
    .correlate(queues)
    .scalar_subquery()
)
_BUSY = select(jobs.c.tenant, func.count().label("leased")).where(LEASED).group_by(jobs.c.tenant).subquery("busy")
_LEASED_NOW = func.coalesce(_BUSY.c.leased, 0)
_LAST_SERVED = case((tenants.c.served > clock(), 0), else_=tenants.c.served)
_NEXT = prepared(
    select(
        queues.c.id,
        queues.c.tenant,
        _LEASED_NOW.label("leased"),
        func.coalesce(tenants.c.in_flight, bindparam("in_flight")).label("most"),
        _head.c.rank,
    )
    .join(tenants, tenants.c.name == queues.c.tenant)
    .join(_head, _head.c.job == _FIRST)
    .outerjoin(_BUSY, _BUSY.c.tenant == queues.c.tenant)
    .where(
        queues.c.family.in_(bindparam("families", expanding=True)),
        exists().where(
            queue_operators.c.queue == queues.c.id,
            queue_operators.c.operator.in_((bindparam("operator"), bindparam("node"))),
        ),
        func.coalesce(tenants.c.in_flight, bindparam("in_flight")) > _LEASED_NOW,
    )
    .order_by(_LEASED_NOW, _LAST_SERVED, _head.c.rank, _head.c.submitted, queues.c.id)
    .limit(1)
)
_SERVED = prepared(update(tenants).where(tenants.c.name == bindparam("tenant")).values(served=clock()))
_ADD = prepared(upsert(queues, lambda statement: statement.on_conflict_do_nothing()), "id", "tenant", "family")
_ENROLLED = prepared(select(nodes.c.key).where(nodes.c.key.in_(bindparam("keys", expanding=True))))
_ADD_OPERATOR = prepared(insert(queue_operators), "queue", "operator")


def find_queue(
    connection: Transaction, tenant: str, family: str, operators: Collection[str], *, known: Collection[str]
) -> str:
    """The queue for a job that `operators` may compute, of whom this gateway has those that are `known`. Made on first use.

    Raises `PolicyError` when none of them has nodes here.
    """
    here = sorted(set(operators) & set(known))
    if not here:
        message = "this gateway takes nodes of none of the operators that the order allows"
        raise PolicyError(message)
    return _find(connection, tenant, family, here)


def find_queue_of_nodes(connection: Transaction, tenant: str, family: str, named: Collection[str]) -> str:
    """The queue for a job that only those of the `named` nodes may compute that are enrolled here. Made on first use.

    Raises `PolicyError` when none of them is.
    """
    here = connection.execute(_ENROLLED, {"keys": sorted(set(named))}).scalars()
    if not here:
        message = "none of the nodes that the request is sealed to is enrolled here"
        raise PolicyError(message)
    return _find(connection, tenant, family, sorted(here))


def _find(connection: Transaction, tenant: str, family: str, takers: Sequence[str]) -> str:
    name = queue_id(tenant, family, takers)
    if connection.execute(_ADD, {"id": name, "tenant": tenant, "family": family}).rowcount == 1:
        connection.execute_many(_ADD_OPERATOR, [{"queue": name, "operator": taker} for taker in takers])
    return name


def choose(database: Database, *, node: str, operator: str, families: Sequence[str], in_flight: int) -> Row:
    """The queue that a `node` of `operator` should take from, or `None`.

    Gives its id and tenant, how many jobs the tenant has leased, and the most that it may have: `in_flight`, where nothing else
    was set for it.
    """
    return database.look(
        _NEXT, {"node": node, "operator": operator, "families": list(families), "in_flight": in_flight}
    )


def limit_tenant(database: Database, tenant: str, *, in_flight: int | None) -> None:
    """Let nodes have at most so many of the tenant's jobs at once; `None`: as the setting says. Raises `NotFoundError`."""
    limited = update(tenants).where(tenants.c.name == tenant).values(in_flight=in_flight)
    with database.write() as connection:
        tell_limit(connection, tenant, "in-flight", in_flight)
        connection.execute(limited)


def note_served(connection: Transaction, tenant: str) -> None:
    """Remember that `tenant` was served now. It only orders the next look."""
    connection.execute(_SERVED, {"tenant": tenant})
