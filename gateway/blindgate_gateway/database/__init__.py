"""How the gateway reads and writes: SQLite in a file, or PostgreSQL by a URL, behind the same few words.

Every change of state is one `write()`: it either happened, on the disk, or it did not. `write(durable=False)` does without the
disk's confirmation. A killed process still loses nothing; a machine that loses its power may forget the last of them. It is
for what nobody was promised: that an upload was asked for, that a lease goes on.

The rooms write statements that are right on both: `statements` says how they are written, `postgresql` what holds where many write.
"""

import sqlite3
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from blindgate_gateway.database import sqlite
from blindgate_gateway.database.sqlite import SqliteDatabase
from blindgate_gateway.database.statements import Prepared, Result, Row, Transaction, clock, prepared, upsert
from blindgate_protocol.errors import BlindgateError

if TYPE_CHECKING:
    from blindgate_gateway.database.postgresql import PostgresqlDatabase

__all__ = [
    "Database",
    "Prepared",
    "Result",
    "Row",
    "Transaction",
    "clock",
    "database_fault",
    "is_busy",
    "open_postgresql",
    "open_sqlite",
    "prepared",
    "upsert",
]


class Database(Protocol):
    """What a database is to the rooms."""

    def of_tenant(self, tenant: str) -> "Database":
        """The same database, for what is done in this tenant's name.

        PostgreSQL shows and changes nothing but this tenant's rows there. SQLite has no such rules: there it is the same.
        """
        ...

    def look(self, statement: Prepared, parameters: Mapping[str, Any]) -> Row:
        """The first row of one statement that needs no other to be consistent with, or `None`."""
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """One consistent view."""
        ...

    def write(self, *, durable: bool = True) -> AbstractContextManager[Transaction]:
        """One change: committed when the block ends, undone when it raises."""
        ...

    def migrating(self) -> AbstractContextManager[Connection]:
        """SQLAlchemy's view of the same database, in a transaction that nobody else has at the same time."""
        ...

    def tidy(self) -> None:
        """Do what is due now and then, and what nobody who writes should wait for."""
        ...

    def close(self) -> None:
        """Close every connection that nobody uses."""
        ...


def open_sqlite(path: Path) -> Database:
    """The database in a file."""
    return SqliteDatabase(path)


def open_postgresql(url: str, *, most: int) -> "PostgresqlDatabase":
    """The database at a libpq connection URI, with at most `most` connections. Raises `BlindgateError` without psycopg."""
    try:
        from blindgate_gateway.database.postgresql import PostgresqlDatabase  # noqa: PLC0415  (an extra)
    except ImportError as error:
        message = "PostgreSQL needs psycopg: pip install 'blindgate[postgresql]'"
        raise BlindgateError(message) from error
    return PostgresqlDatabase(url, most=most)


def database_fault(error: BaseException) -> str | None:
    """What the database said, for an error that is its own; `None` for any other."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error) or _is_psycopg(original):
        return str(original).strip().partition("\n")[0]
    return None


def is_busy(error: Exception) -> bool:
    """Whether `error` is the database's way to say: not now."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if _is_psycopg(original):
        from blindgate_gateway.database import postgresql  # noqa: PLC0415  (an extra)

        return postgresql.is_busy(original)
    return sqlite.is_busy(original)


def _is_psycopg(error: BaseException | None) -> bool:
    psycopg = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(error, psycopg.Error)
