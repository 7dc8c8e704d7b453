"""The first page: how the log stands, who watches it, what happened in the last day."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Response
from sqlalchemy import bindparam, func, select

from blindgate_gateway.console.entries import Checker
from blindgate_gateway.console.pages import auditor, console, parts, render
from blindgate_gateway.database import Database, Transaction, prepared
from blindgate_gateway.log.rooms import note_reading
from blindgate_gateway.settings import DAY
from blindgate_gateway.tables import cosignatures, events, log_head
from blindgate_protocol.checkpoints import Checkpoint, verify_cosignature
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Action, OtherAction, action_of
from blindgate_protocol.notes import VerifierKey, parse_note
from blindgate_protocol.values import Millis

_SIGNED = prepared(select(log_head.c.signed).where(log_head.c.id == 1))
_LAST_LINE = prepared(
    select(cosignatures.c.size, cosignatures.c.checkpoint, cosignatures.c.line)
    .where(cosignatures.c.witness == bindparam("witness"))
    .order_by(cosignatures.c.size.desc())
    .limit(1)
)
_ENDS = prepared(select(func.min(events.c.id).label("first"), func.max(events.c.id).label("last")))
_NEXT = prepared(
    select(events.c.id, events.c.time).where(events.c.id >= bindparam("at")).order_by(events.c.id).limit(1)
)
_COUNTS = prepared(
    select(events.c.action, func.count().label("count"))
    .where(events.c.id >= bindparam("first"), events.c.time >= bindparam("since"))
    .group_by(events.c.action)
    .order_by(events.c.action)
)
_SLACK: Final[Millis] = 600_000
"""How far the clocks of processes that write events may be apart."""


@dataclass(frozen=True)
class Watcher:
    """A witness that is asked, and what it cosigned last.

    Attributes:
        at: when, by the witness's clock; `None` where it never did.
        fault: why its line does not count.
    """

    url: str
    key: str
    size: int = 0
    at: Millis | None = None
    fault: str | None = None


@console.get("/")
def show_overview() -> Response:
    """How the log stands."""
    here = parts()
    note_reading(here, auditor(), "overview")
    head = here.log.sequencer.head()
    signed = here.database.look(_SIGNED, {})
    watchers = [_watcher(here.database, url, key) for url, keys in here.settings.witness_keys.items() for key in keys]
    now = time.time_ns() // 1_000_000
    return render(
        "overview.html",
        head=head,
        tree=Checker(here.database, head, head.checkpoint).head,
        checkpoint=here.log.checkpoint(),
        signed=signed.signed,
        now=now,
        pending=here.log.sequencer.pending(),
        watchers=watchers,
        counts=_counts(here.database, now - DAY),
    )


def _watcher(database: Database, url: str, key: VerifierKey) -> Watcher:
    text = str(key)
    row = database.look(_LAST_LINE, {"witness": text})
    if row is None:
        return Watcher(url, text)
    try:
        note = parse_note((row.checkpoint + row.line).encode())
        line = note.line_of(key)
        if line is None:
            return Watcher(url, text, row.size, None, "its line is missing")
        return Watcher(url, text, row.size, verify_cosignature(Checkpoint.parse(note.text), line, key) * 1000)
    except BlindgateError as error:
        return Watcher(url, text, row.size, None, str(error))


def _counts(database: Database, since: Millis) -> Mapping[Action | OtherAction, int]:
    with database.read() as connection:
        first = _first_since(connection, since - _SLACK)
        rows = connection.execute(_COUNTS, {"first": first, "since": since}).all()
    return {action_of(row.action): row.count for row in rows}


def _first_since(connection: Transaction, since: Millis) -> int:
    """The first row that was written at `since` or later: halving finds it, since rows are written in the order of time."""
    ends: Any = connection.execute(_ENDS).one()
    if ends.first is None:
        return 0
    low, high = ends.first, ends.last + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(_NEXT, {"at": middle}).first()
        if row is None or row.time >= since:
            high = middle
        else:
            low = row.id + 1
    return int(low)
