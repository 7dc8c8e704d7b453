"""On SQLite those who wait together are committed together: each change stands or falls alone, unless the commit itself fails."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from blindgate_gateway.database.sqlite import SqliteDatabase
from blindgate_gateway.database.statements import Transaction
from blindgate_gateway.opening import migrate
from blindgate_gateway.tables import api_keys, tenants
from brokerage import Keys, make_settings

TOGETHER = 8


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    """An empty gateway's."""
    settings = make_settings(tmp_path / "gateway", Keys())
    migrate(settings)
    return SqliteDatabase(settings.sqlite_file)


def _together(database: SqliteDatabase, changes: list[Callable[[Transaction], None]]) -> list[Future[None]]:
    """Make the changes in one group: all of them wait while the first is under way."""
    begun, go = threading.Event(), threading.Event()

    def first() -> None:
        with database.write() as connection:
            begun.set()
            go.wait()
            changes[0](connection)

    def other(change: Callable[[Transaction], None]) -> None:
        with database.write() as connection:
            change(connection)

    with ThreadPoolExecutor(len(changes)) as pool:
        futures = [pool.submit(first)]
        begun.wait()
        futures += [pool.submit(other, change) for change in changes[1:]]
        while database._turn.waiting < len(changes) - 1:
            pass
        go.set()
    return futures


def _add(name: str) -> Callable[[Transaction], None]:
    def change(connection: Transaction) -> None:
        connection.execute(insert(tenants).values(name=name, created=1))

    return change


def _names(database: SqliteDatabase) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(tenants.c.name)).scalars())


def test_those_who_wait_together_share_one_commit(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is waited for once."""
    commits: list[int] = []
    commit = database._commit

    def counted(group: Any) -> None:
        commits.append(group.changes)
        commit(group)

    monkeypatch.setattr(database, "_commit", counted)
    futures = _together(database, [_add(f"tenant-{number}") for number in range(TOGETHER)])
    for future in futures:
        future.result()
    assert commits == [TOGETHER]
    assert _names(database) == {f"tenant-{number}" for number in range(TOGETHER)}


def test_a_change_that_fails_is_undone_alone(database: SqliteDatabase) -> None:
    """Its caller hears its own error; what stood before it and what comes after it stay."""

    def failing(connection: Transaction) -> None:
        _add("half-done")(connection)
        message = "refused"
        raise LookupError(message)

    changes = [_add("one"), failing, _add("two"), failing, _add("three")]
    futures = _together(database, changes)
    assert [type(future.exception()) for future in futures].count(LookupError) == 2
    assert _names(database) == {"one", "two", "three"}


def test_a_commit_that_fails_is_heard_by_all_of_them(database: SqliteDatabase) -> None:
    """Nothing of theirs is there, and the next change is none of their business."""

    def broken(connection: Transaction) -> None:
        # A row without its tenant, which SQLite is told to notice only when it commits.
        connection._driver.execute("PRAGMA defer_foreign_keys=ON")
        connection.execute(insert(api_keys).values(id="k", tenant="nobody", secret_hash="", scopes="jobs", created=1))

    futures = _together(database, [_add("one"), broken, _add("two")])
    assert {type(future.exception()) for future in futures} == {sqlite3.IntegrityError}
    assert _names(database) == set()
    with database.write() as connection:
        _add("later")(connection)
    assert _names(database) == {"later"}


def test_what_must_be_on_the_disk_does_not_join_what_need_not(database: SqliteDatabase) -> None:
    """A change that nobody was promised is committed first, in its own way."""
    levels: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def soon() -> None:
        with database.write(durable=False) as connection:
            begun.set()
            go.wait()
            _add("soon")(connection)

    def sure() -> None:
        with database.write() as connection:
            levels.append(connection._driver.execute("PRAGMA synchronous").fetchone()[0])
            _add("sure")(connection)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(soon)]
        begun.wait()
        futures.append(pool.submit(sure))
        while database._turn.waiting < 1:
            pass
        go.set()
    for future in futures:
        future.result()
    assert levels == [2], "FULL"
    assert _names(database) == {"soon", "sure"}
