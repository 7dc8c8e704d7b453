"""PostgreSQL: several gateways, several writers at once.

What holds where many write:

- a change of state is one statement whose WHERE says everything that makes it right; under READ COMMITTED PostgreSQL waits for a
  row that another transaction is changing, and looks at the condition again;
- what has to read first and decide by it calls `Transaction.alone`, a lock by name until the transaction ends;
- what a transaction relies on and does not change is locked as well (`FOR SHARE`, or an UPDATE that changes its time).

What is done for a tenant is done under another role, which row-level security lets see that tenant's rows alone, and which cannot
read credentials at all (`of_tenant`; migration 0009 has the rules). So a query that forgot to say whose rows it means
finds nothing of anybody else's. Role and tenant are said with the BEGIN, for that transaction, and cost no message of their own.

Connections are opened on first use, so that a process may fork before, and there are at most `most` of them in a process: who finds
none free waits a while and is then told that the gateway is busy. A connection that broke, since the server was restarted
or its host failed, is found out by the BEGIN, before anything was done on it, and another is opened.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any, ClassVar, Final

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, NullPool, create_engine

from blindgate_gateway.database.statements import Dialect, Prepared, Row, Transaction

BUSY_SECONDS = 10.0
CONNECT_SECONDS = 5
_OPTIONS: Final = "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s"
_READ: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE: Final = b"BEGIN"
_WRITE_SOON: Final = b"BEGIN; SET LOCAL synchronous_commit = off"
_LOOK: Final = b"BEGIN READ ONLY"
_TENANT: Final = "; SET LOCAL ROLE blindgate_tenant; SET LOCAL blindgate.tenant = {}"
_NOT_NOW: Final = ("08", "40", "53", "57", "55P03", "23505")
"""SQLSTATEs, or their classes: connection, rollback, resources, operator, lock; and a row that somebody else was quicker to add."""


class NoConnectionError(psycopg.OperationalError):
    """Every connection of this process is in use, and stays so."""


def is_busy(error: BaseException | None) -> bool:
    """Whether `error` is PostgreSQL's way to say: not now."""
    if not isinstance(error, psycopg.Error):
        return False
    return error.sqlstate.startswith(_NOT_NOW) if error.sqlstate else isinstance(error, psycopg.OperationalError)


class PostgresqlTransaction(Transaction):
    """See `Transaction`."""

    dialect: ClassVar[Dialect] = "postgresql"

    def alone(self, *name: str) -> None:
        """Take a lock by name, which ends with the transaction."""
        self._driver.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", ("\x1f".join(name),))


class PostgresqlDatabase:
    """The connections of one process."""

    def __init__(self, url: str, *, most: int) -> None:
        """Connect to `url`, a libpq connection URI, with at most `most` connections."""
        self._url = url
        self._free = threading.Semaphore(most)
        self._idle: list[psycopg.Connection[Any]] = []
        self._whose = b""
        self._memory: dict[str, Any] = {}

    def of_tenant(self, tenant: str) -> "PostgresqlDatabase":
        """The same connections, where nothing but this tenant's rows is seen and changed."""
        view = copy(self)
        view._whose = _TENANT.format(sql.quote(tenant)).encode()  # noqa: SLF001  (it is one of these)
        return view

    def look(self, statement: Prepared, parameters: Mapping[str, Any]) -> Row:
        """The first row of one statement that needs no other to be consistent with, or `None`."""
        if self._whose:
            with self._begun(_LOOK) as driver:
                row = PostgresqlTransaction(driver).execute(statement, parameters).first()
                driver.execute("COMMIT")
                return row
        with self._connection() as slot:
            try:
                return PostgresqlTransaction(slot.driver).execute(statement, parameters).first()
            except psycopg.OperationalError:
                if not slot.renew():
                    raise
                return PostgresqlTransaction(slot.driver).execute(statement, parameters).first()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One consistent view."""
        with self._begun(_READ) as driver:
            yield PostgresqlTransaction(driver, self._memory)
            driver.execute("COMMIT")

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """One change: committed when the block ends, undone when it raises.

        With `durable=False` the disk has not confirmed it yet: a server that loses its power may forget it.
        """
        with self._begun(_WRITE if durable else _WRITE_SOON) as driver:
            yield PostgresqlTransaction(driver, self._memory)
            driver.execute("COMMIT")

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """SQLAlchemy's view of the same database, in a transaction that nobody else has at the same time."""
        engine = create_engine("postgresql+psycopg://", creator=lambda: _connect(self._url), poolclass=NullPool)
        try:
            with engine.begin() as connection:
                # As long as it takes: an index of many rows, or another gateway that is at it already.
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended('migrations', 0))")
                yield connection
        finally:
            engine.dispose()

    def listener(self) -> psycopg.Connection[Any]:
        """A connection of the caller's own, beyond those that are counted."""
        return _connect(self._url, autocommit=True)

    def tidy(self) -> None:
        """See `Database`. The server does it."""

    def close(self) -> None:
        """Close every connection that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _begun(self, kind: bytes) -> Iterator[psycopg.Connection[Any]]:
        begin = kind + self._whose
        with self._connection() as slot:
            try:
                slot.driver.execute(begin)
            except psycopg.OperationalError:
                if not slot.renew():
                    raise
                slot.driver.execute(begin)
            try:
                yield slot.driver
            finally:
                if slot.driver.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                    with suppress(psycopg.OperationalError):
                        slot.driver.execute("ROLLBACK")

    @contextmanager
    def _connection(self) -> Iterator["_Slot"]:
        if not self._free.acquire(timeout=BUSY_SECONDS):
            message = f"no connection to the database was free within {BUSY_SECONDS:.0f} seconds"
            raise NoConnectionError(message)
        try:
            slot = _Slot(self._url, self._idle)
            try:
                yield slot
            finally:
                slot.give_back()
        finally:
            self._free.release()


class _Slot:
    """One use of a connection: the one that was used last, or a new one."""

    def __init__(self, url: str, idle: list[psycopg.Connection[Any]]) -> None:
        self._url, self._all_idle = url, idle
        try:
            self.driver = idle.pop()
            self._new = False
        except IndexError:
            self.driver = _connect(url, autocommit=True)
            self._new = True

    def renew(self) -> bool:
        """Take a new connection where an old one broke. False where it was new, or is well."""
        if self._new or not self.driver.broken:
            return False
        self.driver.close()
        while self._all_idle:  # what is as old is as broken
            with suppress(IndexError):
                self._all_idle.pop().close()
        self.driver = _connect(self._url, autocommit=True)
        self._new = True
        return True

    def give_back(self) -> None:
        """Keep the connection for the next, if it is well."""
        if self.driver.closed or self.driver.info.transaction_status is not TransactionStatus.IDLE:
            self.driver.close()
        else:
            self._all_idle.append(self.driver)


def _connect(url: str, *, autocommit: bool = False) -> psycopg.Connection[Any]:
    # Transactions begin where this module says: autocommit.
    return psycopg.connect(
        url,
        autocommit=autocommit,
        connect_timeout=CONNECT_SECONDS,
        application_name="blindgate-gateway",
        options=_OPTIONS,
        keepalives_idle=30,
        tcp_user_timeout=10_000,
    )
