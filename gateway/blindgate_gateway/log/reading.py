"""What was logged, read back for those who may: pages of events in the log's order.

No question reads the whole log for its answer. Events of an action, of an object and of a tenant have an index each; a window of
time is first made into places (`windows`).

The columns by which events are found say again what their bodies say, and no commitment is over them: one that was edited in the
database would hide its event from whoever filters, and from nobody who reads all. So an event is shown as its columns have it: then
it is not the one that was logged, and whoever reads all finds that, at its index.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Select, bindparam, select

from blindgate_gateway.database import Database, Row, Transaction, prepared
from blindgate_gateway.log.windows import places_of
from blindgate_gateway.tables import events
from blindgate_protocol.canonical import canonical
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.logged import Logged, LoggedPage

MOST: Final = 1000
_FOUND_BY = (events.c.action, events.c.object, events.c.tenant, events.c.time)
_COLUMNS = (events.c.position, events.c.body, events.c.salt, *_FOUND_BY)
_BEHIND = (events.c.position > bindparam("after")) & (events.c.position < bindparam("size"))
_PAGE = select(*_COLUMNS).where(_BEHIND).order_by(events.c.position).limit(bindparam("most"))
_BEFORE = (events.c.position < bindparam("before")) & (events.c.position >= bindparam("first"))
_LATEST = select(*_COLUMNS).where(_BEFORE).order_by(events.c.position.desc()).limit(bindparam("most"))
_FILTERS: Final[Mapping[str, Any]] = {
    "object": events.c.object == bindparam("object"),
    "tenant": events.c.tenant == bindparam("tenant"),
    "action": events.c.action == bindparam("action"),
    # Of one object there are few events, and SQLite, which keeps no statistics here, would take the index by action for shorter.
    "action of object": events.c.action + "" == bindparam("action"),
    "since": events.c.time >= bindparam("since"),
    "until": events.c.time < bindparam("until"),
}
_OF_OBJECT = select(events.c.id, events.c.body, events.c.salt).where(
    events.c.object == bindparam("object"),
    events.c.action == bindparam("action"),
    events.c.tenant == bindparam("tenant"),
)
_LAST = prepared(_OF_OBJECT.where(events.c.position.is_not(None)).order_by(events.c.position.desc()).limit(1))
_LAST_PENDING = prepared(_OF_OBJECT.where(events.c.position.is_(None)).order_by(events.c.id.desc()).limit(1))


def page_of(database: Database, *, size: int, after: int, most: int, **wanted: Any) -> LoggedPage:
    """Events with a place below `size`, behind `after` (-1 for the beginning), that are as `wanted` says.

    `wanted` has any of `object`, `tenant` (a pseudonym), `action`, `since` and `until` (milliseconds, the second exclusive).
    """
    query, given = _asked(_PAGE, wanted)
    with database.read() as connection:
        first, end = _places(connection, size, given)
        bounds = {"after": max(after, first - 1), "size": end, "most": most}
        rows = connection.execute(query, bounds | given).all()
    found = tuple(logged(row) for row in rows)
    return LoggedPage(size=size, events=found, after=found[-1].index if len(found) == most else None)


def latest_of(database: Database, *, before: int, most: int, **wanted: Any) -> tuple[Logged, ...]:
    """The last `most` events with a place below `before` that are as `wanted` says (see `page_of`), the latest first."""
    query, given = _asked(_LATEST, wanted)
    with database.read() as connection:
        first, end = _places(connection, before, given)
        bounds = {"first": first, "before": end, "most": most}
        return tuple(map(logged, connection.execute(query, bounds | given).all()))


def last_event(database: Database, what: str, action: str, *, tenant: str) -> Row:
    """The row (id, body, salt) of the last event of this kind about a tenant's object, or `None`.

    An event that waits for its place is found among those that do, which are few, and is later than all that have theirs.
    """
    wanted = {"object": what, "action": action, "tenant": tenant}
    with database.read() as connection:  # one view: an event that gets its place meanwhile is in neither, or in both
        return connection.execute(_LAST_PENDING, wanted).first() or connection.execute(_LAST, wanted).first()


def _asked(query: Select[Any], wanted: Mapping[str, Any]) -> tuple[Select[Any], dict[str, Any]]:
    given = {name: value for name, value in wanted.items() if value is not None}
    filters = ["action of object" if name == "action" and "object" in given else name for name in given]
    return query.where(*(_FILTERS[name] for name in filters)), given


def _places(connection: Transaction, size: int, given: Mapping[str, Any]) -> tuple[int, int]:
    if not given.keys() & {"since", "until"}:
        return 0, size
    return places_of(connection, size=size, since=given.get("since"), until=given.get("until"))


def logged(row: Row) -> Logged:
    """An event as it is shown."""
    return Logged(index=row.position, event=_as_found(row), salt=row.salt)


def _as_found(row: Row) -> str | None:
    if row.body is None:
        return None
    columns = {column.name: getattr(row, column.name) for column in _FOUND_BY}
    try:
        said = json.loads(row.body)
        if all(said[name] == value for name, value in columns.items()):
            return str(row.body)
        return canonical({**said, **columns}).decode()
    except (ValueError, LookupError, TypeError, MalformedError):  # somebody edited the body, which is shown as it is
        return str(row.body)
