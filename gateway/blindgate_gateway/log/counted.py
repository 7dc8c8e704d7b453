"""What tenants had asked of models before the log told of it.

Each order is told with what its tenant has asked of a budget by then. What was asked before is told once, by the first gateway that
starts and knows how: a `budget.counted` for each budget that there is, in the transaction of the `log.started` that says how many
there are (`budgets`). From then on no budget is without its event.

The rows are locked: an order that is accepted meanwhile counts, and is told, behind these.
"""

from typing import Final

from sqlalchemy import bindparam, exists, or_, select

from blindgate_gateway.database import Row, Transaction, prepared
from blindgate_gateway.log.objects import budget_name, tenant_object
from blindgate_gateway.log.pseudonyms import pseudonym_of
from blindgate_gateway.log.telling import GATEWAY, tell
from blindgate_gateway.tables import events, rows_asked
from blindgate_protocol.events import Action

_STATED: Final = {"stated": '%"budgets":"%'}
_THIS = (events.c.action == Action.LOG_STARTED.value) & events.c.body.like(bindparam("stated"))
_WERE_TOLD = prepared(
    select(
        # Each half has an index of its own.
        or_(
            exists().where(events.c.position.is_not(None), _THIS), exists().where(events.c.position.is_(None), _THIS)
        ).label("told")
    )
)
_ALL = prepared(
    select(rows_asked).order_by(rows_asked.c.tenant, rows_asked.c.publisher, rows_asked.c.model).with_for_update()
)


def untold_budgets(connection: Transaction) -> list[Row] | None:
    """The budgets to tell of, if no gateway has done that; `None` where one has."""
    if connection.execute(_WERE_TOLD, _STATED).scalar():
        return None
    return connection.execute(_ALL, {}).all()


def tell_budgets(connection: Transaction, rows: list[Row]) -> None:
    """Tell of each of them."""
    for row in rows:
        what = tenant_object(pseudonym_of(connection, "tenant", row.tenant))
        details = {"budget": budget_name(row.publisher, row.model), "asked": str(row.rows)}
        tell(connection, Action.BUDGET_COUNTED, what, by=GATEWAY, tenant=row.tenant, details=details)
