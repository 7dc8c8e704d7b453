"""The same request twice is one request: the header `Idempotency-Key`, on every POST that creates something.

A caller that does not know whether its request arrived sends it again under the same key, and gets

- the first answer again, for the same route and body;
- 422 for another body: the key is used up;
- 409 while the first is still being answered.

Only good answers are kept, for a day: what was refused may be tried again. The row is written before the room is asked and
completed after, neither durably: what a power failure makes forgotten is done again, and every room takes the same document
twice as once. So a request whose process was killed half-way is taken up again after `ABANDONED`. If that process was only slow,
what it has to say comes too late: who began last answers, and the time of that beginning is their word for it.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from flask import Response
from sqlalchemy import bindparam, delete, select, update

from blindgate_gateway.database import Database, clock, prepared, upsert
from blindgate_gateway.problems import refusal
from blindgate_gateway.tables import idempotency
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.values import Millis

HEADER: Final = "Idempotency-Key"
LONGEST: Final = 255
ABANDONED: Final[Millis] = 60_000
KEPT: Final[Millis] = 86_400_000

_THIS = (idempotency.c.caller == bindparam("of_caller")) & (idempotency.c.key == bindparam("of_key"))
_BEGIN = prepared(
    upsert(
        idempotency,
        lambda statement: statement.values(began=clock()).on_conflict_do_nothing().returning(idempotency.c.began),
    ),
    "caller",
    "key",
    "request",
)
_KNOWN = prepared(
    select(
        idempotency.c.request, idempotency.c.status, idempotency.c.answer, (clock() - idempotency.c.began).label("age")
    ).where(_THIS)
)
_TAKE_UP = prepared(
    update(idempotency)
    .where(_THIS, idempotency.c.status.is_(None), idempotency.c.began <= clock() - ABANDONED)
    .values(began=clock())
    .returning(idempotency.c.began)
)
_MINE = _THIS & idempotency.c.status.is_(None) & (idempotency.c.began == bindparam("of_beginning"))
_FINISH = prepared(update(idempotency).where(_MINE).values(status=bindparam("good"), answer=bindparam("text")))
_FORGET = prepared(delete(idempotency).where(_MINE))
_OLD = prepared(delete(idempotency).where(idempotency.c.began <= clock() - KEPT))


def once(  # noqa: PLR0913  (who asks, what, and how it is answered)
    database: Database, *, caller: str, key: str, route: str, body: bytes, answer: Callable[[], Response]
) -> Response:
    """Answer a request, or give the answer that it got before. Raises `GatewayError`, and what `answer` raises."""
    if not key or len(key) > LONGEST or not key.isascii() or not key.isprintable():
        message = f"the header {HEADER} must be 1 to {LONGEST} printable ASCII characters"
        raise MalformedError(message)
    this = {"of_caller": caller, "of_key": key}
    request = hashlib.sha256(route.encode() + b"\0" + body).hexdigest()
    with database.write(durable=False) as connection:
        began = connection.execute(_BEGIN, {"caller": caller, "key": key, "request": request}).scalar()
        known = None if began is not None else connection.execute(_KNOWN, this).first()
        if known is not None and known.request != request:
            raise refusal("key-reused", f"the {HEADER} was used before, for another request")
        if known is not None and known.status is None:
            began = connection.execute(_TAKE_UP, this).scalar()
    if known is not None and known.status is not None:
        return Response(known.answer, known.status, mimetype="application/json")
    if began is None:
        raise refusal("still-running", f"the request of this {HEADER} is still being answered")
    mine = this | {"of_beginning": began}
    try:
        response = answer()
    except BaseException:
        with database.write(durable=False) as connection:
            connection.execute(_FORGET, mine)
        raise
    with database.write(durable=False) as connection:
        given = {"good": response.status_code, "text": response.get_data(as_text=True)}
        if connection.execute(_FINISH, mine | given).rowcount == 1:
            return response
        known = connection.execute(_KNOWN, this).first()
    # Somebody took this request for abandoned, and may have answered it.
    if known is None or known.status is None:
        return response
    return Response(known.answer, known.status, mimetype="application/json")


def sweep_answers(database: Database) -> None:
    """Forget answers that are older than a day."""
    with database.write(durable=False) as connection:
        connection.execute(_OLD)
