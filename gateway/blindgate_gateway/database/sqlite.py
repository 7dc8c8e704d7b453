"""SQLite: one file, one writer, the gateway on one machine.

Every `write()` either happened, on the disk, or it did not: WAL with `synchronous=FULL`, and `BEGIN IMMEDIATE`, so that a
transaction holds the write lock before it reads what it decides on. SQLite's own wait for that lock sleeps in growing steps;
inside one process a plain lock hands it on at once instead.
"""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, StaticPool, create_engine

from blindgate_gateway.database.statements import Dialect, Prepared, Row, Transaction

BUSY_SECONDS = 10.0
_NOT_NOW = frozenset({"SQLITE_BUSY", "SQLITE_FULL", "SQLITE_CANTOPEN"})


def is_busy(error: BaseException | None) -> bool:
    """Whether `error` is SQLite's way to say: not now."""
    return getattr(error, "sqlite_errorname", "") in _NOT_NOW


class SqliteTransaction(Transaction):
    """See `Transaction`."""

    dialect: ClassVar[Dialect] = "sqlite"

    def alone(self, *name: str) -> None:
        """Nothing is to be done: there is one writer."""


class SqliteDatabase:
    """Connections, opened on first use, so that a process may fork before.

    The one that was used last is used next: its page cache is the one that is still valid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._turn = threading.Lock()

    def look(self, statement: Prepared, parameters: Mapping[str, Any]) -> Row:
        """The first row of one statement that needs no other to be consistent with, or `None`."""
        with self._connection() as driver:
            return SqliteTransaction(driver).execute(statement, parameters).first()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One consistent view."""
        with self._connection() as driver:
            driver.execute("BEGIN")
            try:
                yield SqliteTransaction(driver)
            finally:
                driver.execute("COMMIT")

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """One change: committed when the block ends, undone when it raises."""
        with self._turn, self._connection() as driver:
            if not durable:
                driver.execute("PRAGMA synchronous=NORMAL")
            try:
                driver.execute("BEGIN IMMEDIATE")
                try:
                    yield SqliteTransaction(driver)
                    driver.execute("COMMIT")
                finally:
                    if driver.in_transaction:
                        driver.execute("ROLLBACK")
            finally:
                if not durable:
                    driver.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """SQLAlchemy's view of the same database, in a transaction that nobody else has at the same time."""
        engine = create_engine("sqlite://", creator=lambda: _open(self.path), poolclass=StaticPool)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
        finally:
            engine.dispose()
        self.path.chmod(0o600)

    def close(self) -> None:
        """Close every connection that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            driver = self._idle.pop()
        except IndexError:
            driver = _open(self.path)
        try:
            yield driver
        finally:
            self._idle.append(driver)


def _open(path: Path) -> sqlite3.Connection:
    # isolation_level None: transactions begin where this module says, not where the driver guesses.
    driver = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            driver.execute(f"PRAGMA {pragma}")
    except BaseException:
        driver.close()
        raise
    return driver
