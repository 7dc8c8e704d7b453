"""Between which places of the log a window of time lies.

The log is in the order in which events got their places, which is nearly that of their times, and not quite: transactions end in
another order than they began, and gateways' clocks differ. So a time has no place. Of each 256 entries, those of a full tile, the
earliest and the latest time are kept beside the tile's root. A tile whose latest time is before a window has nothing of it, and
neither has any before the first one that may. What lies between is read in the log's order and asked for its time, as ever: the
answer is exact, and what is read besides is as much as the clocks disagree, and no more.

An index by time would cost each event an entry, on the way of each job, and would not give the log's order. This costs the
sequencer a look at a tile that is full.
"""

from typing import Final

from sqlalchemy import bindparam, func, insert, or_, select

from blindgate_gateway.database import Transaction, prepared
from blindgate_gateway.tables import events, log_tiles
from blindgate_protocol.tiles import WIDTH

LEVEL: Final = 1
"""At which level of `log_tiles` a row stands for one tile of entries."""
_TIMES = (events.c.position >= bindparam("first")) & (events.c.position < bindparam("end"))
KEEP_TILE = prepared(
    insert(log_tiles).values(
        level=LEVEL,
        earliest=select(func.min(events.c.time)).where(_TIMES).scalar_subquery(),
        latest=select(func.max(events.c.time)).where(_TIMES).scalar_subquery(),
    ),
    "number",
    "hash",
)
"""Keep a full tile of entries, whose events have their places from `first` up to `end`."""
_BELOW = (log_tiles.c.level == LEVEL) & (log_tiles.c.number < bindparam("tiles"))
# A tile that a gateway of an older version kept has no times, and may hold any.
_FIRST = prepared(
    select(log_tiles.c.number)
    .where(_BELOW, or_(log_tiles.c.latest.is_(None), log_tiles.c.latest >= bindparam("since")))
    .order_by(log_tiles.c.number)
    .limit(1)
)
_LAST = prepared(
    select(log_tiles.c.number)
    .where(_BELOW, or_(log_tiles.c.earliest.is_(None), log_tiles.c.earliest < bindparam("until")))
    .order_by(log_tiles.c.number.desc())
    .limit(1)
)
_TAIL = prepared(select(func.min(events.c.time)).where(_TIMES))


def places_of(connection: Transaction, *, size: int, since: int | None, until: int | None) -> tuple[int, int]:
    """Between which places every event of a window lies, in a log of `size` entries: the first, and the one behind the last.

    The window begins with `since` and ends before `until`, in milliseconds; `None` is no bound.
    """
    tiles = size // WIDTH
    first, end = 0, size
    if since is not None:
        found = connection.execute(_FIRST, {"tiles": tiles, "since": since}).scalar()
        first = (tiles if found is None else int(found)) * WIDTH
    if until is not None:
        tail = connection.execute(_TAIL, {"first": tiles * WIDTH, "end": size}).scalar()
        if tail is None or tail >= until:
            found = connection.execute(_LAST, {"tiles": tiles, "until": until}).scalar()
            end = 0 if found is None else (int(found) + 1) * WIDTH
    return first, end
