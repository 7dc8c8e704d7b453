"""How many rows of a model each tenant has asked for, and whether it may ask for more.

Scores by themselves give a model away in the end: a linear model's weights after as many rows as there are weights. A publisher
may therefore say in the manifest how many rows a tenant may ask for in all. Rows count when an order is accepted, for every version
of a model by the same publisher together, whatever becomes of the job. A node refuses an input that holds other rows than its order
says.

The log is told with each order what its tenant has asked of that budget by then (`job.submitted`, and once `budget.counted` for
what was asked before: `log.counted`): a number that was lowered behind the gateway's back would let the tenant have the model after
all.
"""

from sqlalchemy import bindparam, select, update

from blindgate_gateway.catalogue import find_latest
from blindgate_gateway.database import Transaction, prepared, upsert
from blindgate_gateway.identity import Account, Role
from blindgate_gateway.log.objects import budget_name
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.tables import rows_asked
from blindgate_protocol.errors import BudgetSpentError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.messages import BudgetView
from blindgate_protocol.signing import Signed

routes = Routes("budgets")

_OF_MODEL = (
    (rows_asked.c.tenant == bindparam("of_tenant"))
    & (rows_asked.c.publisher == bindparam("of_publisher"))
    & (rows_asked.c.model == bindparam("of_model"))
)
_ASKED = prepared(select(rows_asked.c.rows).where(_OF_MODEL))
_BEGIN = prepared(
    upsert(rows_asked, lambda statement: statement.values(rows=0).on_conflict_do_nothing()),
    "tenant",
    "publisher",
    "model",
)
_ANY_NUMBER = (1 << 63) - 1
_WITH_MORE = rows_asked.c.rows + bindparam("more")
_MORE = prepared(
    update(rows_asked)
    .where(_OF_MODEL, bindparam("most") >= _WITH_MORE)
    .values(rows=_WITH_MORE)
    .returning(rows_asked.c.rows)
)


@routes.get("/v1/models/<name>/budget", roles={Role.TENANT, Role.READER}, answers={200: BudgetView})
def show_budget(call: Call[Account, None], name: str) -> Answer:
    """Show how many rows of a model this tenant has asked for, and how many it may."""
    with call.parts.database.read() as connection:
        manifest = find_latest(connection, name)
        asked = _asked(connection, call.caller.tenant, manifest)
    return BudgetView(rows_per_tenant=manifest.document.privacy.rows_per_tenant, rows_asked=asked or 0)


def spend(connection: Transaction, tenant: str, manifest: Signed[Manifest], rows: int) -> dict[str, str]:
    """Count `rows` that `tenant` asks for. Gives what the log is told of it: of which budget, how many, and how many by now.

    Raises `BudgetSpentError` where that would be more than it may.
    """
    key, name = _key(tenant, manifest), manifest.document.name
    most = manifest.document.privacy.rows_per_tenant
    more = {**key, "more": rows, "most": _ANY_NUMBER if most is None else most}
    asked = connection.execute(_MORE, more).scalar()
    if asked is None:
        connection.execute(_BEGIN, {"tenant": tenant, "publisher": manifest.signer, "model": name})
        asked = connection.execute(_MORE, more).scalar()
    if asked is None:
        before = _asked(connection, tenant, manifest) or 0
        message = (
            f"model {name!r} gives a tenant {most} rows in all; {before} were asked for, and this order asks for {rows}"
        )
        raise BudgetSpentError(message)
    return {"budget": budget_name(manifest.signer, name), "rows": str(rows), "asked": str(asked)}


def _asked(connection: Transaction, tenant: str, manifest: Signed[Manifest]) -> int | None:
    found: int | None = connection.execute(_ASKED, _key(tenant, manifest)).scalar()
    return found


def _key(tenant: str, manifest: Signed[Manifest]) -> dict[str, str]:
    return {"of_tenant": tenant, "of_publisher": manifest.signer, "of_model": manifest.document.name}
