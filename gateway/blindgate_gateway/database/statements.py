"""Statements, the same for both databases: SQLAlchemy Core, compiled once for each, then given to the driver as they are.

Running one costs 20 µs that way and 150 µs through SQLAlchemy's own connection, and a job is some forty statements. Values are
text, whole numbers and bytes only, so nothing has to be converted.

Whether a lease or a deadline has passed is decided by `clock()`, the database's own, never by a process.
"""

from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

from sqlalchemy import BigInteger
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, expression
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.schema import Table

Dialect = Literal["sqlite", "postgresql"]
_DIALECTS: Final[Mapping[Dialect, Any]] = {
    "sqlite": sqlite.dialect(paramstyle="named"),
    # psycopg binds on the server, so parameters need their types: this dialect writes them.
    "postgresql": PGDialect_psycopg(paramstyle="pyformat"),  # type: ignore[no-untyped-call]
}
_INSERTS: Final[Mapping[Dialect, Callable[[Table], Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

MOST_LENGTHS: Final = 64
"""Of how many lengths of its lists a statement keeps its text."""

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
    # The statement's own time, not the transaction's; unlike clock_timestamp() an index can be searched with it.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"


class upsert:  # noqa: N801  (a statement: it reads as one)
    """An INSERT that says what happens where the row is there already, in each database's words.

    `then` gets the dialect's `Insert` and gives it back with `values`, `on_conflict_do_nothing`, `returning`, and so on.
    """

    def __init__(self, table: Table, then: Callable[[Any], Insert]) -> None:
        self._table, self._then = table, then

    def of(self, dialect: Dialect) -> ClauseElement:
        """The statement for `dialect`."""
        return self._then(_INSERTS[dialect](self._table))


Statement: TypeAlias = ClauseElement | upsert


class _Text:
    """A statement as one driver takes it."""

    def __init__(self, statement: ClauseElement, dialect: Dialect, columns: Sequence[str]) -> None:
        compiled: Any = statement.compile(dialect=_DIALECTS[dialect], column_keys=list(columns) or None)
        self._compiled = compiled
        self._lists = tuple(compiled.bind_names[bind] for bind in compiled.post_compile_params)
        self._written_out: dict[tuple[int, ...], str] = {}
        self.sql = str(compiled)
        self.fixed = {name: bind.effective_value for bind, name in compiled.bind_names.items() if not bind.required}
        self.row: Any = None

    def with_lists(self, parameters: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The text and the parameters, lists written out.

        Writing them out takes longer than running most statements, so a text is kept for each length that a list had.
        """
        given = {**self.fixed, **parameters} if self.fixed else parameters
        if not self._lists:
            return self.sql, given
        lengths = tuple(len(given[name]) for name in self._lists)
        text = self._written_out.get(lengths)
        if text is None:
            state = self._compiled.construct_expanded_state(given, escape_names=False)
            if len(self._written_out) < MOST_LENGTHS:
                self._written_out[lengths] = state.statement
            return state.statement, state.parameters
        values = {name: value for name, value in given.items() if name not in self._lists}
        for name in self._lists:
            values.update((f"{name}_{place}", value) for place, value in enumerate(given[name], 1))
        return text, values


class Prepared:
    """A statement with its text for each driver, made when it is first needed.

    Parameters are its named `bindparam`s; `in_` ones take lists.
    """

    def __init__(self, statement: Statement, *columns: str) -> None:
        self._statement, self._columns = statement, columns
        self._texts: dict[Dialect, _Text] = {}

    def text(self, dialect: Dialect) -> _Text:
        """The text for `dialect`."""
        found = self._texts.get(dialect)
        if found is None:
            statement = self._statement.of(dialect) if isinstance(self._statement, upsert) else self._statement
            found = self._texts[dialect] = _Text(statement, dialect, self._columns)
        return found


def prepared(statement: Statement, *columns: str) -> Prepared:
    """Compile `statement` once, where it is written down. An INSERT names the `columns` that its parameters fill."""
    return Prepared(statement, *columns)


class Cursor(Protocol):
    """What both drivers' cursors have."""

    @property
    def description(self) -> Any:
        """The columns, name first, or `None`."""
        ...

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        ...

    def fetchone(self) -> Any:
        """The next row."""
        ...

    def fetchall(self) -> list[Any]:
        """All further rows."""
        ...


class Driver(Protocol):
    """What both drivers' connections have."""

    def execute(self, sql: Any, parameters: Any = ..., /) -> Cursor:
        """Run one statement."""
        ...


class Result:
    """What a statement gave."""

    def __init__(self, cursor: Cursor, text: _Text) -> None:
        self._cursor = cursor
        if text.row is None and cursor.description is not None:
            text.row = _row_type([column[0] for column in cursor.description])
        self._row = text.row

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


class Transaction(ABC):
    """An open transaction.

    Attributes:
        memory: what this process knows of the database for some seconds, so that it need not ask each time.
    """

    dialect: ClassVar[Dialect]

    def __init__(self, driver: Driver, memory: dict[str, Any] | None = None) -> None:
        self._driver = driver
        self.memory: dict[str, Any] = {} if memory is None else memory

    def execute(self, statement: Prepared | Statement, parameters: Mapping[str, Any] | None = None) -> Result:
        """Run a statement. One that was not `prepared` is compiled each time."""
        text = (statement if isinstance(statement, Prepared) else Prepared(statement)).text(self.dialect)
        sql, values = text.with_lists(parameters or {})
        return Result(self._driver.execute(sql, values), text)

    def execute_many(self, statement: Prepared, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement once for each of `parameters`."""
        for one in parameters:
            self.execute(statement, one)

    @abstractmethod
    def alone(self, *name: str) -> None:
        """Until this transaction ends, be the only one that is `alone` under this name, among all gateways.

        For what reads first and decides by it. Where one statement can decide, that is better.
        """
