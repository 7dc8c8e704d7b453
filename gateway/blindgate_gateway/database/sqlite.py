"""SQLite: one file, one writer, the gateway on one machine.

Every `write()` either happened, on the disk, or it did not: WAL with `synchronous=FULL`, and `BEGIN IMMEDIATE`, so that a
transaction holds the write lock before it reads what it decides on. SQLite's own wait for that lock sleeps in growing steps;
inside one process a plain lock hands it on at once instead.

**Group commit.** The disk's confirmation takes longer than all statements of a change. So who finds others waiting for the lock
does not commit, but leaves its change in the open transaction, lets the next one in, and waits; who finds nobody waiting commits
for all. Each change is a savepoint: one that fails is undone alone. If the commit fails, all of them hear that error.

**Checkpoints.** What was committed lies in the log until it is copied into the file. SQLite lets the commit that makes the log a
thousand pages long do that, which takes it thirty times as long as any other. Here `tidy` does it, once a second, from a thread
that nobody waits for; a commit does it only if the log gets very long all the same.
"""

import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, StaticPool, create_engine

from blindgate_gateway.database.statements import Dialect, Prepared, Row, Transaction

BUSY_SECONDS = 10.0
TIDY_SECONDS = 0.02
"""How long the end of a checkpoint may wait for those who read, while it keeps writers waiting."""
LONG_LOG = 1000
LONGEST_LOG = 16_000
"""In pages of 4 KiB."""
MOST_TOGETHER = 64
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    f"wal_autocheckpoint={LONGEST_LOG}",
)
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
        self._turn = _Turn()
        self._group: _Group | None = None
        self._memory: dict[str, Any] = {}

    def of_tenant(self, tenant: str) -> "SqliteDatabase":  # noqa: ARG002  (SQLite has no rules for rows)
        """See `Database`."""
        return self

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
                yield SqliteTransaction(driver, self._memory)
            finally:
                driver.execute("COMMIT")

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """One change: committed when the block ends, undone when it raises."""
        with self._turn:
            group = self._join(durable=durable)
            try:
                group.driver.execute("SAVEPOINT change")
                try:
                    yield SqliteTransaction(group.driver, self._memory)
                except BaseException:
                    if group.driver.in_transaction:
                        group.driver.execute("ROLLBACK TO change")
                    raise
                finally:
                    if group.driver.in_transaction:
                        group.driver.execute("RELEASE change")
            finally:
                group.changes += 1
                if not group.driver.in_transaction:  # SQLite has undone all of it: the disk was full, or failed
                    self._end(group, sys.exc_info()[1])
                elif self._turn.waiting == 0 or group.changes >= MOST_TOGETHER:
                    self._commit(group)
        group.over.wait()
        if group.error is not None:
            raise group.error

    def _join(self, *, durable: bool) -> "_Group":
        """The open transaction, or a new one. What must be on the disk does not join what need not."""
        group = self._group
        if group is not None and durable and not group.durable:
            self._commit(group)
            group = None
        if group is None:
            group = _Group(self._take(), durable=durable)
            try:
                if not durable:
                    group.driver.execute("PRAGMA synchronous=NORMAL")
                group.driver.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._give_back(group)
                raise
            self._group = group
        return group

    def _commit(self, group: "_Group") -> None:
        error = None
        try:
            group.driver.execute("COMMIT")
        except sqlite3.Error as failure:
            error = failure
            if group.driver.in_transaction:
                group.driver.execute("ROLLBACK")
        self._end(group, error)

    def _end(self, group: "_Group", error: BaseException | None) -> None:
        self._group = None
        self._give_back(group)
        group.error = error
        group.over.set()

    def _give_back(self, group: "_Group") -> None:
        if not group.durable:
            group.driver.execute("PRAGMA synchronous=FULL")
        self._idle.append(group.driver)

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

    def tidy(self) -> None:
        """See `Database`."""
        with closing(_open(self.path, patience=TIDY_SECONDS)) as driver:
            _, length, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if length >= LONG_LOG:  # the little that came meanwhile, so that the log begins anew
                driver.execute("PRAGMA wal_checkpoint(RESTART)")

    def close(self) -> None:
        """Close every connection that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        driver = self._take()
        try:
            yield driver
        finally:
            self._idle.append(driver)

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return _open(self.path)


class _Group:
    """Changes that are committed together."""

    def __init__(self, driver: sqlite3.Connection, *, durable: bool) -> None:
        self.driver, self.durable = driver, durable
        self.changes = 0
        self.over = threading.Event()
        self.error: BaseException | None = None


class _Turn:
    """A lock that knows how many wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = threading.Lock()
        self.waiting = 0

    def __enter__(self) -> None:
        with self._count:
            self.waiting += 1
        self._lock.acquire()
        with self._count:
            self.waiting -= 1

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _open(path: Path, *, patience: float = BUSY_SECONDS) -> sqlite3.Connection:
    # isolation_level None: transactions begin where this module says, not where the driver guesses.
    driver = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            driver.execute(f"PRAGMA {pragma}")
    except BaseException:
        driver.close()
        raise
    return driver
