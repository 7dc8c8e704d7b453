"""How many rows by which somebody gets in, or a gateway says whom it believes, are older than the log, or than what it tells.

Whoever puts such a row into the database can let it say that it is older than the log. So a gateway that starts says how many there
are of which no event tells (`log.started`). They are never deleted (a gateway's only with an event), and none is added without one:
an auditor who finds more of them than there were once knows that one was put in.
"""

from sqlalchemy import ColumnElement, FromClause, and_, exists, func, or_, select

from blindgate_gateway.database import Transaction, prepared
from blindgate_gateway.tables import api_keys, enrolment_tokens, events, gateways, pseudonyms, tenants
from blindgate_protocol.events import Action

_GRANTED = (Action.CREDENTIAL_GRANTED.value, Action.CREDENTIAL_ROTATED.value)


def _unlogged(source: FromClause, what: ColumnElement[str], actions: tuple[str, ...]) -> ColumnElement[int]:
    """How many rows of `source` have no event about `what`."""
    this = and_(events.c.object == what, events.c.action.in_(actions))
    # Each half has an index of its own.
    told = or_(exists().where(events.c.position.is_not(None), this), exists().where(events.c.position.is_(None), this))
    return select(func.count()).select_from(source).where(~told).scalar_subquery()


_NAMED = tenants.outerjoin(pseudonyms, (pseudonyms.c.kind == "tenant") & (pseudonyms.c.name == tenants.c.name))
_COUNT = prepared(
    select(
        _unlogged(_NAMED, "tenant:" + func.coalesce(pseudonyms.c.pseudonym, ""), (Action.TENANT_ADDED.value,)).label(
            "tenants"
        ),
        _unlogged(api_keys, "credential:" + api_keys.c.id, _GRANTED).label("credentials"),
        _unlogged(enrolment_tokens, "enrolment-token:" + enrolment_tokens.c.id, _GRANTED).label("tokens"),
        _unlogged(gateways, "gateway:" + gateways.c.id, (Action.GATEWAY_ENTERED.value,)).label("gateways"),
    )
)


def count_unlogged(connection: Transaction) -> dict[str, str]:
    """How many tenants, API keys, enrolment tokens and gateways no event tells of, as the details of `log.started`."""
    row = connection.execute(_COUNT, {}).one()
    return {f"unlogged-{name}": str(count) for name, count in row._asdict().items()}
