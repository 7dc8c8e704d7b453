"""A row's columns, the same in JSON Lines, CSV and Parquet: a script that reads one reads the others.

    index       the entry in the log, from 0
    time        UTC; in text with milliseconds, `2026-01-31T08:00:00.000Z`
    proof       `in log`, `body altered`, `erased`, `missing` (see `report`)
    action      what happened; docs/audit.md tells what each means
    object      to what: its kind and its id
    before, after       the object's state
    actor, role         who, and as what
    tenant      whose object, by pseudonym
    outcome, reason     how it went, and why
    digest      of the signed document that says so
    request     the gateway's name of the request
    job, node           what a key was sent for, and where
    statement, previous the number of the owner's statement, and the digest of the one before
    details     what else the event says, by name
    software    the gateway's version
    note        what must be said of the row itself

What an event does not have is empty: `null`, in CSV nothing. So is everything but the first and the third where the body is gone.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

from blindgate_audit.report import Row

COLUMNS: Final = (
    "index",
    "time",
    "proof",
    "action",
    "object",
    "before",
    "after",
    "actor",
    "role",
    "tenant",
    "outcome",
    "reason",
    "digest",
    "request",
    "job",
    "node",
    "statement",
    "previous",
    "details",
    "software",
    "note",
)
_OWN_COLUMN: Final = frozenset({"job", "node", "previous"})
_NO_DETAILS: Final[Mapping[str, str]] = {}
_LAST_MILLIS: Final = 253_402_300_799_999  # the end of the year 9999

Cell: TypeAlias = int | str | dict[str, str] | None


def cells(row: Row) -> dict[str, Cell]:
    """A row by column. `time` is in milliseconds since 1970."""
    event = row.event
    given = dict.fromkeys(COLUMNS) | {"index": row.index, "proof": row.proof.value, "note": row.note}
    if event is None:
        return given
    sequence = row.sequence
    rest = {
        name: text
        for name, text in event.details.items()
        if name not in _OWN_COLUMN and not (name == "sequence" and sequence is not None)
    }
    return given | {
        "time": event.time,
        "action": event.action.value,
        "object": event.object,
        "before": event.before,
        "after": event.after,
        "actor": event.actor,
        "role": event.role,
        "tenant": event.tenant,
        "outcome": event.outcome,
        "reason": event.reason,
        "digest": event.digest,
        "request": event.request,
        "job": event.details.get("job"),
        "node": event.details.get("node"),
        "statement": sequence,
        "previous": event.details.get("previous"),
        "details": rest or None,
        "software": event.software,
    }


def rfc3339(millis: int) -> str:
    """A point in time as RFC 3339 writes it, with milliseconds. What no calendar has is given as the last that it has."""
    seconds, rest = divmod(min(millis, _LAST_MILLIS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
