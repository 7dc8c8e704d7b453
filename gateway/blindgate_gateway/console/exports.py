"""Events to take along: JSON Lines for programs, CSV for tables.

A line of JSON is what `/v1/audit/events` gives of an event: its index, its words and its salt, so that each can be held against the
tree again. CSV is for reading: its texts are what tenants and nodes said, so one that a spreadsheet would take for a formula gets
an apostrophe before it. Both name people by pseudonym. Each export is told to the log, with what was asked for.

Events are read a page at a time while they are sent: however many there are, the gateway holds a thousand.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flask import Response

from blindgate_gateway.console.entries import as_row, entry_from
from blindgate_gateway.console.filters import Filter, filter_of
from blindgate_gateway.console.pages import auditor, console, parts, render
from blindgate_gateway.console.shown import iso
from blindgate_gateway.database import Database
from blindgate_gateway.log.reading import MOST, page_of
from blindgate_gateway.log.rooms import note_reading
from blindgate_protocol.events import Action
from blindgate_protocol.logged import Logged

COLUMNS: Final = (
    "index",
    "time",
    "action",
    "actor",
    "role",
    "tenant",
    "object",
    "digest",
    "outcome",
    "reason",
    "request",
    "before",
    "after",
    "details",
    "software",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


@console.get("/exports")
def show_exports() -> Response:
    """The form."""
    here = parts()
    return render("exports.html", filter=filter_of(here.database), actions=list(Action))


@console.get("/exports/events.jsonl")
def export_lines() -> Response:
    """Events as JSON Lines."""
    return _sent("jsonl", "application/jsonl", lambda found: (f"{one.model_dump_json()}\n" for one in found))


@console.get("/exports/events.csv")
def export_table() -> Response:
    """Events as CSV."""
    return _sent("csv", "text/csv", _table)


def _sent(name: str, media: str, write: Any) -> Response:
    here = parts()
    chosen = filter_of(here.database)
    note_reading(here, auditor(), f"events as {name}: {chosen.told}", exported=True)
    size = here.log.sequencer.head().size
    lines = write(_read(here.database, size, chosen))
    headers = {"Content-Disposition": f'attachment; filename="blindgate-events.{name}"'}
    return Response(lines, mimetype=media, headers=headers)


def _read(database: Database, size: int, chosen: Filter) -> Iterator[Logged]:
    after: int | None = -1
    while after is not None:
        page = page_of(database, size=size, after=after, most=MOST, **chosen.wanted)
        yield from page.events
        after = page.after


def _table(found: Iterator[Logged]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for one in found:
        writer.writerow({name: cell(value) for name, value in _row(one).items()})
        if text.tell() > 1 << 16:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _row(one: Logged) -> Mapping[str, Any]:
    row = dict(as_row(entry_from(one)))
    return row | {"time": iso(row["time"])} if "time" in row else row


def cell(value: Any) -> str:
    """A value as no spreadsheet takes it for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
