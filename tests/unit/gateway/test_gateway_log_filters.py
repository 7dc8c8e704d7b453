"""Filters of events: the right ones, found without reading the log, on both databases."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from blindgate_gateway.database import Database, Prepared
from blindgate_gateway.log import reading
from blindgate_gateway.log.windows import places_of
from blindgate_gateway.opening import migrate
from blindgate_gateway.parts import connect
from blindgate_gateway.tables import log_tiles
from brokerage import Keys, make_settings

EVENTS = 20_000
START = 1_000_000
STEP = 100
"""Milliseconds from one event to the next."""
DISORDER = 5_000
"""By how many a clock may be off."""
TENANT = f"tenant-{'0f' * 16}"
_ADD = (
    "INSERT INTO events (position, time, action, object, tenant, commitment, body, salt) VALUES "
    "({position}, {time}, '{action}', '{object}', '{tenant}', {blob}, NULL, NULL)"
)
BLOBS = {"sqlite": "x'00'", "postgresql": r"'\x00'"}
TILES = (
    "INSERT INTO log_tiles (level, number, hash, earliest, latest) "
    "SELECT 1, position / 256, {blob}, min(time), max(time) FROM events GROUP BY position / 256 HAVING count(*) = 256"
)


def rows() -> list[tuple[int, int, str, str]]:
    """Place, time, action and object of each: the times nearly in order; one action rare, one that ended long ago."""
    drawn = random.Random(3)
    actions = ["job.leased", "job.submitted"]
    return [
        (
            place,
            START + place * STEP + drawn.randrange(DISORDER),
            "key.destroyed" if place % 5000 == 77 else "node.enrolled" if place < 300 else drawn.choice(actions),
            f"job:{place // 4:032x}",
        )
        for place in range(EVENTS)
    ]


ROWS = rows()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A log on each database, with statistics where it keeps them."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_server").new_database()
    settings = make_settings(tmp_path_factory.mktemp("filters"), Keys(), database=url)
    migrate(settings)
    made = connect(settings)
    with made.migrating() as connection:
        blob = BLOBS[connection.dialect.name]
        for place, time, action, what in ROWS:
            told = {"position": place, "time": time, "action": action, "object": what, "tenant": TENANT, "blob": blob}
            connection.exec_driver_sql(_ADD.format(**told))
        connection.exec_driver_sql(TILES.format(blob=blob))
        if url is not None:
            connection.exec_driver_sql("ANALYZE events")
    yield made
    made.close()


def expected(**wanted: Any) -> list[int]:
    """The places of the events that are as wanted."""
    since, until = wanted.get("since", 0), wanted.get("until", 1 << 50)
    return [
        place
        for place, time, action, what in ROWS
        if since <= time < until and wanted.get("action") in {None, action} and wanted.get("object") in {None, what}
    ]


MIDDLE = START + EVENTS // 2 * STEP
QUESTIONS = [
    pytest.param({"action": "key.destroyed"}, id="an action"),
    pytest.param({"since": MIDDLE}, id="from a time on"),
    pytest.param({"until": START + 9_999}, id="before a time"),
    pytest.param({"since": MIDDLE, "until": MIDDLE + 20_000}, id="a window"),
    pytest.param({"since": MIDDLE, "until": MIDDLE}, id="an empty window"),
    pytest.param({"since": MIDDLE, "until": START}, id="a window that ends before it begins"),
    pytest.param({"since": 1 << 45}, id="the future"),
    pytest.param({"until": 5}, id="before the log"),
    pytest.param({"since": START + (EVENTS - 100) * STEP}, id="in the last tile, which is not full"),
    pytest.param({"since": MIDDLE, "action": "key.destroyed"}, id="an action from a time on"),
    pytest.param({"object": f"job:{700:032x}", "action": "job.leased"}, id="an action of an object"),
]


@pytest.mark.parametrize("wanted", QUESTIONS)
@pytest.mark.parametrize("size", [EVENTS, EVENTS - 300, 255, 0])
def test_pages_have_every_event_that_is_asked_for(database: Database, wanted: dict[str, Any], size: int) -> None:
    """Forwards, page after page, and the latest, backwards; whatever order the clocks made of it."""
    there = [place for place in expected(**wanted) if place < size]
    found: list[int] = []
    after: int | None = -1
    while after is not None:
        page = reading.page_of(database, size=size, after=after, most=700, **wanted)
        found += [one.index for one in page.events]
        after = page.after
    assert found == there
    latest = reading.latest_of(database, before=size, most=50, **wanted)
    assert [one.index for one in latest] == there[::-1][:50]


@pytest.mark.parametrize("width", [0, 10_000])
def test_a_window_is_narrowed_to_the_tiles_that_may_hold_it(database: Database, width: int) -> None:
    """At most what the clocks disagree by, and two tiles' ends, is read besides."""
    with database.read() as connection:
        for since in range(START - 1000, START + (EVENTS - 600) * STEP, 97_531):
            first, end = places_of(connection, size=EVENTS, since=since, until=since + width)
            assert end - first <= (width + DISORDER) // STEP + 2 * 256
            inside = expected(since=since, until=since + width)
            assert all(first <= place < end for place in inside)


def test_tiles_that_an_older_gateway_kept_may_hold_any_time(database: Database) -> None:
    """They have no times: nothing is left out for it."""
    wanted = {"since": MIDDLE, "until": MIDDLE + 20_000}
    with database.migrating() as connection:
        connection.exec_driver_sql("UPDATE log_tiles SET earliest = NULL, latest = NULL WHERE number / 3 * 3 = number")
    try:
        page = reading.page_of(database, size=EVENTS, after=-1, most=1000, **wanted)
        assert [one.index for one in page.events] == expected(**wanted)
    finally:
        with database.migrating() as connection:
            connection.exec_driver_sql("DELETE FROM log_tiles")
            connection.exec_driver_sql(TILES.format(blob=BLOBS[connection.dialect.name]))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        pytest.param({"action": "key.destroyed"}, "ix_events_action_position", id="an action"),
        pytest.param({"action": "node.enrolled"}, "ix_events_action_position", id="an action of long ago"),
        pytest.param({"since": MIDDLE, "until": MIDDLE + 20_000}, "ix_events_position", id="a window"),
        pytest.param(
            {"object": f"job:{7:032x}", "action": "job.leased"}, "ix_events_object_position", id="of an object"
        ),
    ],
)
def test_no_question_reads_the_whole_log(
    database: Database, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], index: str
) -> None:
    """Each plan reads an index by what is asked for, and sorts no more than one object's events."""
    for ask in (
        lambda: reading.page_of(database, size=EVENTS, after=-1, most=50, **wanted),
        lambda: reading.latest_of(database, before=EVENTS, most=50, **wanted),
    ):
        (plan,) = plans_of(database, monkeypatch, ask, of="events.body")
        assert index in plan
        assert re.search(r"Seq Scan|SCAN events", plan) is None
        assert index == "ix_events_object_position" or re.search(r"Sort|TEMP B-TREE", plan) is None


def test_a_log_of_before_gets_its_times(tmp_path: Path, empty_database_url: str | None) -> None:
    """With the migration: tiles that were full already have theirs."""
    settings = make_settings(tmp_path / "gateway", Keys(), database=empty_database_url)
    migrate(settings, to="0015")
    database = connect(settings)
    with database.migrating() as connection:
        blob = BLOBS[connection.dialect.name]
        for place in range(300):
            told = {
                "position": place,
                "time": 7 + (place ^ 3),
                "action": "log.read",
                "object": "log:x",
                "tenant": TENANT,
            }
            connection.exec_driver_sql(_ADD.format(**told, blob=blob))
        connection.exec_driver_sql(f"INSERT INTO log_tiles (level, number, hash) VALUES (1, 0, {blob})")
    migrate(settings)
    with database.read() as connection:
        (row,) = connection.execute(select(log_tiles.c.earliest, log_tiles.c.latest)).all()
    database.close()
    assert tuple(row) == (7, 7 + 255)


def plans_of(database: Database, monkeypatch: pytest.MonkeyPatch, ask: Any, *, of: str) -> list[str]:
    """How the database carries out the statements with `of` in them that `ask` makes."""
    plans: list[str] = []
    with database.read() as connection:
        execute = type(connection).execute

    def explain(connection: Any, statement: Any, parameters: Any = None) -> Any:
        text = (statement if isinstance(statement, Prepared) else Prepared(statement)).text(connection.dialect)
        if of in text.sql:
            word = "EXPLAIN QUERY PLAN " if connection.dialect == "sqlite" else "EXPLAIN "
            sql, values = text.with_lists(parameters or {})
            plans.append("\n".join(str(row) for row in connection._driver.execute(word + sql, values).fetchall()))
        return execute(connection, statement, parameters)

    with monkeypatch.context() as patched, database.read() as connection:
        patched.setattr(type(connection), "execute", explain)
        ask()
    return plans
