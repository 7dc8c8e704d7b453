"""How the gateway reads and writes its database: one reader, one writer, one clock.

Every change of state is one `write()`: it either happened, on the disk, or it did not. On SQLite that means WAL with
`synchronous=FULL`, and `BEGIN IMMEDIATE`, so that a transaction holds the write lock before it reads what it decides on.
SQLite's own wait for that lock sleeps in growing steps; inside one process a plain lock hands it on at once instead.

`write(durable=False)` does without the disk's confirmation. A killed process still loses nothing; a machine that loses its
power may forget the last of them. It is for what nobody was promised: that an upload was asked for, that a lease goes on.

Whether a lease or a deadline has passed is decided by `clock()`, the database's own, never by a process.

Statements are SQLAlchemy Core's, compiled once (`prepared`) and then given to the driver as they are: running one costs 20 µs
that way and 150 µs through SQLAlchemy's own connection, and a job is some forty statements. Values are text, whole
numbers and bytes only, so nothing has to be converted.
"""

import sqlite3
import threading
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, Engine, StaticPool, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, expression
from sqlalchemy.sql.compiler import SQLCompiler

BUSY_SECONDS = 10.0
_DIALECT = sqlite.dialect(paramstyle="named")

Row: TypeAlias = Any
"""A named tuple of the statement's columns."""


class clock(expression.FunctionElement[int]):  # noqa: N801  (an SQL function: it reads as one)
    """The database's time, in milliseconds since 1970."""

    type = BigInteger()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite_clock(_element: clock, _compiler: SQLCompiler, **_: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; Debian 12 has 3.40.
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


@compiles(clock, "postgresql")
def _postgresql_clock(_element: clock, _compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


class Prepared:
    """A statement with its text for the driver. Parameters are its named `bindparam`s; `in_` ones take lists."""

    def __init__(self, statement: ClauseElement, *columns: str) -> None:
        compiled: Any = statement.compile(dialect=_DIALECT, column_keys=columns or None)
        self._expanding = bool(compiled.post_compile_params)
        self._compiled = compiled
        self.sql = str(compiled)
        self.fixed = {name: bind.effective_value for bind, name in compiled.bind_names.items() if not bind.required}
        self.row: Any = None

    def with_lists(self, parameters: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The text and the parameters, lists written out."""
        given = {**self.fixed, **parameters} if self.fixed else parameters
        if not self._expanding:
            return self.sql, given
        state = self._compiled.construct_expanded_state(given, escape_names=False)
        return state.statement, state.parameters


def prepared(statement: ClauseElement, *columns: str) -> Prepared:
    """Compile `statement` once, where it is written down. An INSERT names the `columns` that its parameters fill."""
    return Prepared(statement, *columns)


class Result:
    """What a statement gave."""

    def __init__(self, cursor: sqlite3.Cursor, statement: Prepared) -> None:
        self._cursor = cursor
        if statement.row is None and cursor.description is not None:
            statement.row = _row_type([column[0] for column in cursor.description])
        self._row = statement.row

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        return self._cursor.rowcount

    def all(self) -> list[Row]:
        """Every row."""
        return [self._row._make(row) for row in self._cursor.fetchall()]

    def first(self) -> Row:
        """The first row, or `None`."""
        row = self._cursor.fetchone()
        return None if row is None else self._row._make(row)

    def one(self) -> Row:
        """The first row, which is known to be there."""
        return self._row._make(self._cursor.fetchone())

    def scalar(self) -> Any:
        """The first row's first column, or `None`."""
        row = self._cursor.fetchone()
        return None if row is None else row[0]

    def scalars(self) -> list[Any]:
        """Every row's first column."""
        return [row[0] for row in self._cursor.fetchall()]


def _row_type(columns: Sequence[str]) -> Any:
    return namedtuple("Row", columns)  # noqa: PYI024  (the names are known when it runs)


class Transaction:
    """An open transaction."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def execute(self, statement: Prepared | ClauseElement, parameters: Mapping[str, Any] | None = None) -> Result:
        """Run a statement. One that was not `prepared` is compiled each time."""
        known = statement if isinstance(statement, Prepared) else Prepared(statement)
        sql, values = known.with_lists(parameters or {})
        return Result(self._driver.execute(sql, values), known)

    def execute_many(self, statement: Prepared, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once for each of `parameters`."""
        self._driver.executemany(statement.sql, [statement.fixed | dict(one) for one in parameters])


class Database:
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
            return Transaction(driver).execute(statement, parameters).first()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One consistent view."""
        with self._connection() as driver:
            driver.execute("BEGIN")
            try:
                yield Transaction(driver)
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
                    yield Transaction(driver)
                    driver.execute("COMMIT")
                finally:
                    if driver.in_transaction:
                        driver.execute("ROLLBACK")
            finally:
                if not durable:
                    driver.execute("PRAGMA synchronous=FULL")

    def engine(self) -> Engine:
        """SQLAlchemy's view of the same database, for migrations."""
        return create_engine("sqlite://", creator=lambda: _open(self.path), poolclass=StaticPool)

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
