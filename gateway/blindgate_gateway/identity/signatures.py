"""Nodes sign every request; this decides whether one was signed now, for this gateway, by a node that is one of it.

1. The signature is of the form that `blindgate_protocol.http_signatures` reads, and covers all that it must: method, target,
   the lease, and the digest of a body.
2. Its key is an enrolled node's whose certificate is valid, and whose operator is among the settings' operators.
3. It verifies for this gateway: for the path and query as they came, under one of the addresses that the settings name.
   Which of them is not taken from the request, since a proxy may write `Host` anew; `Host` only chooses among the gateway's own.
4. It was made within `CLOCK_SKEW` of the database's time. Only who passed 3 is told by how much a clock is off.
5. Its nonce is new. The database decides, so it is new to every process of every gateway on it. Time is looked at again there: it
   may have gone on since, or been set.

What is left is that the body has the digest that was signed: `routing` compares it where it reads the body, and `leases` while
it receives a result.

Nonces are kept until no signature that carries them could pass 4, and a minute longer, so that a process that was held up between
4 and 5 finds them still. They are written without waiting for the disk: a machine that loses its power may forget those of the
last moments, and whoever replays one of them then finds leases gone on.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from sqlalchemy import bindparam, delete, exists, select
from werkzeug.wrappers import Request

from blindgate_gateway.database import Database, clock, prepared, upsert
from blindgate_gateway.identity.roles import Node
from blindgate_gateway.problems import refusal
from blindgate_gateway.settings import Settings
from blindgate_gateway.tables import nodes, nonces
from blindgate_protocol.errors import ClockSkewError, NotAuthorisedError, SignatureError
from blindgate_protocol.http_signatures import (
    CONTENT_DIGEST,
    SIGNATURE,
    SIGNATURE_INPUT,
    parse_content_digest,
    read_signature,
    signed_fields,
)
from blindgate_protocol.messages import LEASE_HEADER
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.values import Millis

MARGIN: Final[Millis] = 60_000
MOST_FORGOTTEN: Final = 5000

_NODE = prepared(
    select(nodes.c.name, nodes.c.operator, (nodes.c.expires > clock()).label("valid"), clock().label("now")).where(
        nodes.c.key == bindparam("key")
    )
)
_UNTIL = bindparam("until", type_=nonces.c.until.type)
_NOTE = prepared(
    upsert(
        nonces,
        lambda statement: statement.from_select(
            ["node", "nonce", "until"],
            select(
                bindparam("node", type_=nonces.c.node.type), bindparam("nonce", type_=nonces.c.nonce.type), _UNTIL
            ).where(clock() <= _UNTIL),
        ).on_conflict_do_nothing(),
    )
)
_SEEN = prepared(
    select(
        exists().where(nonces.c.node == bindparam("node"), nonces.c.nonce == bindparam("nonce")).label("before"),
        clock().label("now"),
    )
)
_FORGOTTEN = nonces.c.until <= clock() - MARGIN
_ANY_OLD = prepared(select(exists().where(_FORGOTTEN).label("any")))
_OLD = prepared(select(nonces.c.until).where(_FORGOTTEN).order_by(nonces.c.until).limit(MOST_FORGOTTEN))
_FORGET = prepared(delete(nonces).where(nonces.c.until <= bindparam("last")))


def authenticate_node(database: Database, request: Request, settings: Settings) -> Node:
    """The node that signed `request`. Raises `MalformedError`, `NotAuthorisedError`, or `GatewayError` with status 401."""
    # 1.
    headers = request.headers
    signature = read_signature(headers.get(SIGNATURE_INPUT, ""), headers.get(SIGNATURE, ""))
    has_body = bool(request.content_length) or "Transfer-Encoding" in headers
    announced = headers.get(CONTENT_DIGEST, "") if has_body else None
    if announced is not None:
        parse_content_digest(announced)
    # 2.
    row = database.look(_NODE, {"key": signature.key})
    if row is None or not row.valid or row.operator not in settings.operators:
        message = (
            "the request is signed by a key that is no enrolled node's, or whose certificate is not valid any more"
        )
        raise NotAuthorisedError(message, status=401)
    # 3.
    target = _target(request.environ)
    addresses = settings.addresses_at(request.headers.get("Host", ""))
    try:
        signature.verify(
            request.method,
            (address + target for address in addresses),
            signed_fields(announced, headers.get(LEASE_HEADER)),
        )
    except SignatureError as error:
        raise NotAuthorisedError(str(error), status=401) from error
    # 4.
    made = signature.created * 1000
    check_clock(made, row.now)
    # 5.
    note = {"node": signature.key, "nonce": signature.nonce, "until": made + CLOCK_SKEW}
    with database.write(durable=False) as connection:
        noted = connection.execute(_NOTE, note).rowcount == 1
        seen = None if noted else connection.execute(_SEEN, note).first()
    if seen is not None:
        if seen.before:
            raise refusal("replayed", "this request was sent before: a nonce is good once")
        check_clock(made, seen.now)
        raise refusal("busy", "the clock was set while this request was looked at; send another")
    return Node(signature.key, row.name, row.operator)


def check_clock(made: Millis, now: Millis) -> None:
    """Refuse what was signed at another time than now, and say how far off the signer's clock is. Raises `ClockSkewError`."""
    ahead = made - now
    if abs(ahead) > CLOCK_SKEW:
        which = "ahead of" if ahead > 0 else "behind"
        message = (
            f"the node's clock is {abs(ahead) / 1000:,.0f} s {which} the gateway's:"
            f" at most {CLOCK_SKEW // 1000} s are allowed"
        )
        raise ClockSkewError(message, status=401, problem=ClockSkewError.code)


def sweep_nonces(database: Database) -> None:
    """Forget nonces that no signature could be replayed with any more."""
    if not database.look(_ANY_OLD, {}).any:
        return
    with database.write(durable=False) as connection:
        old = connection.execute(_OLD).scalars()
        if old:
            connection.execute(_FORGET, {"last": old[-1]})


def _target(environ: Mapping[str, str]) -> str:
    """Path and query, as they were sent: the server keeps them; where it is none, they are written again."""
    if "RAW_URI" in environ:
        return environ["RAW_URI"]
    path, query = quote(environ.get("PATH_INFO", ""), safe="/:@!$&'()*+,;=~"), environ.get("QUERY_STRING", "")
    return f"{path}?{query}" if query else path
