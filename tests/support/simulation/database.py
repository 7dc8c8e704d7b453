"""A database that is SQLite in memory, with the product's own statements, and fails when it is told to.

One connection for all processes: transactions come one after the other, as SQLite has it, and as PostgreSQL would have it if it
were asked for SERIALIZABLE. What READ COMMITTED allows besides is for the tests that run on PostgreSQL.

Before a transaction begins and after it was committed others go on; while one is open, whoever needs the database waits. At each
statement the database may refuse or the process may die; at the commit, too, before it and after: then it is done, and nobody
knows.

**Power.** What was written with `durable=False` lies in a savepoint that stays open until something durable is committed, which
takes along all before it, as a log does. `lose_power` undoes the last of those that nothing durable followed: any number of them.

**Time.** `julianday('now')`, which is what `clock()` is on SQLite, is a function of this module's: the world's time.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, StaticPool, create_engine

from blindgate_gateway.database import Prepared, Result, Row
from blindgate_gateway.database.sqlite import SqliteTransaction
from blindgate_gateway.tables import metadata
from simulation.audit import Audit
from simulation.faults import Faults
from simulation.scheduler import Process, Scheduler, Signal

_IN_TRANSACTION: Final = ("database busy", "disk full", "connection lost", "process dies")
_AT_COMMIT: Final = (
    "database busy",
    "disk full",
    "connection lost before commit",
    "connection lost after commit",
    "process dies before commit",
    "process dies after commit",
)
_UNIX_EPOCH_DAYS: Final = 2440587.5
_DAY: Final = 86_400_000.0
_SOON, _SLOWLY = 400, 8000
"""Microseconds that a transaction takes at most, mostly, and now and then."""


class Machine:
    """SQLite in memory with the product's tables; made once, and emptied for each schedule."""

    def __init__(self) -> None:
        self.driver = sqlite3.connect(":memory:", isolation_level=None, cached_statements=2000)
        self._now: Callable[[], int] = int
        self._note: Callable[..., None] = _nothing
        self.driver.create_function("julianday", 1, self._julianday, deterministic=True)
        self.driver.create_function("note", -1, self._noted)
        self.driver.execute("PRAGMA foreign_keys=ON")
        engine = create_engine("sqlite://", creator=lambda: self.driver, poolclass=StaticPool)
        with engine.connect() as connection:
            metadata.create_all(connection)
            connection.commit()
        Audit.plant(self.driver)
        self._tables = [table.name for table in reversed(metadata.sorted_tables)]

    def renew(self, now: Callable[[], int], note: Callable[..., None]) -> None:
        """Empty it. `now` tells the time, in milliseconds since 1970; `note` is told of what changes (`audit`)."""
        if self.driver.in_transaction:
            self.driver.execute("ROLLBACK")
        self._now, self._note = now, _nothing
        self.driver.execute("PRAGMA foreign_keys=OFF")
        self.driver.execute("BEGIN")
        for table in self._tables:
            self.driver.execute(f"DELETE FROM {table}")
        self.driver.execute("COMMIT")
        self.driver.execute("PRAGMA foreign_keys=ON")
        self._note = note

    def _julianday(self, _now: str) -> float:
        return self._now() / _DAY + _UNIX_EPOCH_DAYS

    def _noted(self, *what: Any) -> None:
        self._note(*what)


class Disk:
    """The database of one schedule: what all gateways share."""

    def __init__(self, machine: Machine, scheduler: Scheduler, faults: Faults, audit: Audit) -> None:
        self.driver = machine.driver
        self.scheduler, self.faults, self.audit = scheduler, faults, audit
        self.driver.execute("BEGIN")
        self._soft = 0
        self._busy: Signal | None = None

    @property
    def in_use(self) -> bool:
        """Whether somebody's transaction is open."""
        return self._busy is not None

    def peek(self, sql: str, *parameters: Any) -> list[Any]:
        """What a statement of the simulation's own finds now. Nobody else's transaction is open."""
        return self.driver.execute(sql, parameters).fetchall()

    def lose_power(self) -> int:
        """Forget some of what was not confirmed. Gives how many changes."""
        kept = self.scheduler.chance.randint(0, self._soft)
        lost = self._soft - kept
        if lost:
            self.driver.execute(f"ROLLBACK TO s{kept}")
            self.driver.execute(f"RELEASE s{kept}")
            self._soft = kept
        return lost

    def wait(self) -> None:
        """Take as long as the database takes, and longer while somebody else's transaction is open."""
        chance, faults = self.scheduler.chance, self.faults
        slow = _SLOWLY if chance.random() < 0.1 else _SOON
        self.scheduler.pause(int(chance.random() * slow) + 20)
        if faults.strike("database slow"):
            self.scheduler.pause(int(chance.random() * 3_000_000))
        while self._busy is not None:
            self._busy.wait(10_000_000)

    @contextmanager
    def write(self, process: Process, *, durable: bool) -> Iterator["SimulatedTransaction"]:
        """See `Database.write`."""
        process.check()
        self.wait()
        self._busy = Signal(self.scheduler)
        save = f"s{self._soft}"
        self.driver.execute(f"SAVEPOINT {save}")
        try:
            try:
                yield SimulatedTransaction(self, process)
                process.check()
                what = self.faults.strike(*_AT_COMMIT)
                if what and not what.endswith("after commit"):
                    self.fail(process, what)
            except BaseException:
                self.driver.execute(f"ROLLBACK TO {save}")
                self.driver.execute(f"RELEASE {save}")
                self.audit.undo()
                raise
            if durable:
                self.driver.execute("COMMIT")
                self.driver.execute("BEGIN")
                self._soft = 0
            else:
                self._soft += 1
            self.audit.commit()
        finally:
            busy, self._busy = self._busy, None
            busy.set()
        if what:
            self.fail(process, what)
        self.scheduler.pause(int(self.scheduler.chance.random() * _SOON))

    def look(self, process: Process, statement: Prepared, parameters: Mapping[str, Any]) -> Row:
        """See `Database.look`."""
        process.check()
        self.wait()
        return SimulatedTransaction(self, process).execute(statement, parameters).first()

    @contextmanager
    def read(self, process: Process) -> Iterator["SimulatedTransaction"]:
        """See `Database.read`."""
        process.check()
        self.wait()
        yield SimulatedTransaction(self, process)

    def fail(self, process: Process, what: str) -> None:
        """Let it happen: the process dies, or the driver raises."""
        if what.startswith("process dies"):
            self.scheduler.kill(process)
        if what.startswith("connection lost"):
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        full = what == "disk full"
        error = sqlite3.OperationalError("database or disk is full" if full else "database is locked")
        error.sqlite_errorname = "SQLITE_FULL" if full else "SQLITE_BUSY"
        raise error


class SimulatedTransaction(SqliteTransaction):
    """A transaction of the product's, in which any statement may be the last."""

    def __init__(self, disk: Disk, process: Process) -> None:
        super().__init__(disk.driver)
        self._disk, self._process = disk, process

    def execute(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> Result:
        """Run a statement, or fail."""
        self._process.check()
        what = self._disk.faults.strike(*_IN_TRANSACTION)
        if what:
            self._disk.fail(self._process, what)
        return super().execute(statement, parameters)


class SimulatedDatabase:
    """One process's view of the database: see `blindgate_gateway.database.Database`."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk, self._process = disk, process

    def look(self, statement: Prepared, parameters: Mapping[str, Any]) -> Row:
        """The first row of one statement."""
        return self._disk.look(self._process, statement, parameters)

    def read(self) -> AbstractContextManager[SimulatedTransaction]:
        """One consistent view."""
        return self._disk.read(self._process)

    def write(self, *, durable: bool = True) -> AbstractContextManager[SimulatedTransaction]:
        """One change."""
        return self._disk.write(self._process, durable=durable)

    def of_tenant(self, tenant: str) -> "SimulatedDatabase":  # noqa: ARG002  (there are no rules for rows)
        """The same."""
        return self

    def migrating(self) -> AbstractContextManager[Connection]:
        """Nothing migrates here."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Nothing is due."""

    def close(self) -> None:
        """Nothing is open."""


def _nothing(*_: Any) -> None:
    """Nobody listens."""
