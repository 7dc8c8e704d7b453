"""Rows as the database has them, for auditors.

The other lists for auditors show documents, which hold themselves by their signatures. Rows also say, in columns of their own, what
documents and the log say: by them the gateway finds and counts. Whoever edits such a column changes what the gateway does, and no
document. So auditors are shown the columns too, unread, and hold them against what was signed and logged
(`blindgate audit verify`).

Of what opens something (a lease's token) the digest is shown, which the log has too. Until when a lease goes on, which changes with
each sign of life, is not shown. Documents are shown elsewhere, but for the manifests of models.

Of the seal of a sealed job the digest is shown, which the log has too. Of a blob it is said whether its bytes lie here, and then
their digest as they are; and of what is counted (`stored_bytes`), what it comes to at this moment: nobody else can add that up
while blobs come and go. A gateway behind whose back somebody edited the database says both truly; one that lies could as well
answer wrongly.

Of a secret by which somebody gets in, the digest of its hash is shown, which the log has too. Sessions, staff and people are named
as the log names them. When something was last used, or when a gateway was last seen, is not shown.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from sqlalchemy import ColumnElement, String, Table, case, func, select, tuple_

from blindgate_gateway import tables
from blindgate_gateway.console.sessions import NAME_LENGTH, shown_grounds
from blindgate_gateway.identity import Role, Staff
from blindgate_gateway.problems import not_found
from blindgate_gateway.quotas import really_stored
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.oversight import ELSEWHERE, NAMELESS, TableName, TableRows

routes = Routes("rows")

MOST: Final = 200
_FEWER: Final[Mapping[str, int]] = {"manifests": 20, "blobs": 100}
"""Each manifest may have a megabyte, and each blob that is read 64 KiB."""
_PLACE: Final = r"\[.{1,400}\]"
_HIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "tenants": frozenset({"served"}),
    "api_keys": frozenset({"used"}),
    "sessions": frozenset({"used"}),
    "enrolment_tokens": frozenset(),
    "gateways": frozenset({"seen"}),
    "manifests": frozenset(),
    "keys": frozenset(),
    "key_statements": frozenset({"envelope"}),
    "jobs": frozenset({"leased_until"}),
    "ended_jobs": frozenset(),
    "job_documents": frozenset({"order", "receipt"}),
    "attempts": frozenset(),
    "queues": frozenset(),
    "queue_operators": frozenset(),
    "rows_asked": frozenset(),
    "blobs": frozenset({"stored", "object"}),
    "stored_bytes": frozenset(),
}
_SECRETS: Final = frozenset({"token", "secret_hash"})
"""Columns with what opens something: 128 random bits or more, of which a digest says nothing."""
_TABLES: Final[Mapping[str, Table]] = {name: getattr(tables, name) for name in get_args(TableName)}


def _pseudonym(name: ColumnElement[str]) -> ColumnElement[str]:
    """Of somebody of the staff, or a person."""
    of = select(tables.pseudonyms.c.pseudonym).where(
        tables.pseudonyms.c.kind == "staff", tables.pseudonyms.c.name == name
    )
    return case((name.is_(None), None), else_=func.coalesce(of.scalar_subquery(), NAMELESS)).label(name.key)


_NAMED: Final[Mapping[str, Sequence[ColumnElement[Any]]]] = {
    "sessions": [func.substr(tables.sessions.c.token_hash, 1, NAME_LENGTH, type_=String).label("name")]
}
"""What a table's rows are shown by, where that is not the primary key."""
_INSTEAD: Final[Mapping[str, ColumnElement[Any]]] = {
    str(column): _pseudonym(column) for column in (tables.api_keys.c.staff, tables.sessions.c.person)
}
_BESIDES: Final[Mapping[str, Sequence[ColumnElement[Any]]]] = {
    "blobs": [tables.blobs.c.object.is_not(None).label("elsewhere")],
    "stored_bytes": [really_stored(tables.stored_bytes.c.tenant).label("really")],
}
"""What is said of a table's rows besides their columns."""


@routes.get(
    "/v1/audit/rows/<table>",
    roles={Role.AUDITOR},
    answers={200: TableRows},
    parameters={
        "most": ("query", f"how many, at most {MOST}"),
        "after": ("query text", "where to go on: what the page before gave as `after`"),
    },
)
def list_rows(call: Call[Staff, None], table: str) -> Answer:
    """List a table's rows as the database has them, by primary key."""
    source = _TABLES.get(table)
    if source is None:
        raise not_found("table")
    most = _FEWER.get(table, MOST)
    key = _NAMED.get(table, list(source.primary_key.columns))
    shown = [_INSTEAD.get(str(column), column) for column in source.columns if column.name not in _HIDDEN[table]]
    query = select(*shown, *_NAMED.get(table, ()), *_BESIDES.get(table, ()))
    after = call.text("after", pattern=_PLACE)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*_place(after, key)))
    query = query.order_by(*key).limit(call.query("most", default=MOST, most=most))
    with call.parts.database.read() as connection:
        rows = [_sealed(row._asdict()) for row in connection.execute(query).all()]
    last = json.dumps([rows[-1][column.name] for column in key]) if rows else after
    return TableRows(rows=tuple({name: _shown(name, value) for name, value in row.items()} for row in rows), after=last)


def _place(after: str, key: Sequence[Any]) -> list[Any]:
    try:
        place = json.loads(after)
    except ValueError:
        place = None
    types = [column.type.python_type for column in key]
    if not isinstance(place, list) or [type(value) for value in place] != types or not all(map(_may_be_asked, place)):
        message = "the query's after is not of the form that this route gives and takes"
        raise MalformedError(message)
    return place


def _may_be_asked(value: str | int) -> bool:
    return value.isascii() and value.isprintable() if isinstance(value, str) else 0 <= value < 1 << 31


def _sealed(row: dict[str, Any]) -> dict[str, Any]:
    """A session without its token's hash, a blob without its bytes; any other row as it is."""
    if "data" in row:
        data, elsewhere = row["data"], row.pop("elsewhere")
        return row | {"data": ELSEWHERE if data is None and elsewhere else data if data is None else _digest_of(data)}
    if "token_hash" not in row:
        return row
    token_hash = row.pop("token_hash")
    return row if row["grounds"] is None else row | {"grounds": shown_grounds(token_hash, row["grounds"])}


def _digest_of(data: Any) -> str:
    return digest(data if isinstance(data, bytes) else str(data).encode(errors="replace"))


def _seal_digest(text: str) -> str:
    """The digest of what came along with a sealed job, as the log has it; of the text, where that is none any more."""
    try:
        return digest(base64.b64decode(text, altchars="-_", validate=True))
    except ValueError:
        return digest(text.encode(errors="replace"))


def _shown(name: str, value: Any) -> str | int | None:
    if name == "seal" and isinstance(value, str):
        return _seal_digest(value)
    if name in _SECRETS and isinstance(value, str):
        return digest(value.encode(errors="replace"))
    # SQLite keeps whatever was put into a column.
    return value if value is None or isinstance(value, (str, int)) else repr(value)
