"""On SQLite no commit copies the log into the file: a thread does it, and the log stays short."""

from pathlib import Path

import pytest
from sqlalchemy import insert, select

from blindgate_gateway.database.sqlite import LONG_LOG, SqliteDatabase
from blindgate_gateway.opening import migrate
from blindgate_gateway.sweep import sweep_often
from blindgate_gateway.tables import tenants
from brokerage import Keys, make_settings
from desk import open_desk

PAGE = 4096
PAGES = 600
"""Of a round, and more than half as long as a log may be."""


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    """An empty gateway's."""
    settings = make_settings(tmp_path / "gateway", Keys())
    migrate(settings)
    return SqliteDatabase(settings.sqlite_file)


def _write(database: SqliteDatabase, name: str) -> None:
    with database.write() as connection:
        connection.execute(insert(tenants).values(name=name + "x" * PAGES * PAGE, created=1))


def _log_pages(database: SqliteDatabase) -> int:
    return database.path.with_name(f"{database.path.name}-wal").stat().st_size // PAGE


def test_the_log_begins_anew_when_it_was_copied(database: SqliteDatabase) -> None:
    """However much is written; without that it grows."""
    for number in range(8):
        _write(database, str(number))
    assert _log_pages(database) > 6 * PAGES
    database.tidy()
    long = _log_pages(database)
    for number in range(8, 24):
        _write(database, str(number))
        database.tidy()
    assert _log_pages(database) == long, "the file is used again, and got no longer"
    database.close()


def test_a_long_look_keeps_no_writer_waiting(database: SqliteDatabase) -> None:
    """Whoever reads for minutes, as a check or a backup does, is not waited for."""
    _write(database, "before")
    with database.read() as looking:
        assert len(looking.execute(select(tenants.c.created)).all()) == 1
        for number in range(2 * LONG_LOG // PAGES + 1):
            _write(database, str(number))
            database.tidy()
        assert len(looking.execute(select(tenants.c.created)).all()) == 1
    database.tidy()
    assert len(_all(database)) > 1
    database.close()


def test_a_gateway_tidies_by_itself(tmp_path: Path) -> None:
    """It is among what is due every second."""
    with open_desk(tmp_path) as desk:
        database = SqliteDatabase(desk.brokerage.settings.sqlite_file)
        for number in range(2 * LONG_LOG // PAGES + 1):
            _write(database, str(number))
        sweep_often(desk.parts)
        long = _log_pages(database)
        _write(database, "another")
        assert _log_pages(database) == long
        database.close()


def _all(database: SqliteDatabase) -> list[str]:
    with database.read() as connection:
        return connection.execute(select(tenants.c.created)).all()
