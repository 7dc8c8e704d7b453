"""How many rows of a model each tenant had this node compute, where the model's publisher says how many there may be in all.

The gateway counts what orders name, over all nodes. A gateway that forgets, or lets a tenant through, is noticed by nobody but the
nodes, and a publisher of a hidden model has only their word: so each counts for itself, what it computed, on its own disk.

- Counted are a tenant's rows of a model by a publisher, all versions together, as the gateway counts them (`budgets` there). An
  honest gateway's number is never the smaller one, so no node refuses a job that it should not have. One that was put back from a
  copy has forgotten what was asked since, and its nodes have not.
- One **order** counts once, by its digest, however often it is leased: it is of the same ciphertexts, and brings the same scores.
  Not by its job's id, which who signs orders may use again for other ciphertexts.
- It counts before anything is computed, and is on disk then. A crash in between loses rows and gives none away.
- An order can come again until its deadline; then it is refused for that, and forgotten here.

What is left to a gateway that lies: as many nodes as there are, each with a budget of its own, and tenants that it makes up.
"""

import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from blindgate_protocol.errors import BudgetSpentError, KeyStoreError, SandboxError
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import Millis

_TABLES: Final = """
create table if not exists rows_computed (
    tenant text not null,
    publisher text not null,
    model text not null,
    rows integer not null,
    primary key (tenant, publisher, model)
) strict, without rowid;
create table if not exists orders_counted (digest text primary key, deadline integer not null) strict, without rowid;
create index if not exists orders_by_deadline on orders_counted (deadline);
"""
_WAIT_SECONDS: Final = 10.0


class Budgets:
    """The rows that this node computed, in one file. For several threads."""

    def __init__(self, file: Path) -> None:
        """Open `file`, or make it. Raises `KeyStoreError`: a count that cannot be read is not begun anew."""
        self._turn = threading.Lock()
        try:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            message = f"{file.name}: the rows that this node computed cannot be read: {error}"
            raise KeyStoreError(message) from error

    def spend(self, order: Signed[Order], manifest: Signed[Manifest], now: Millis) -> None:
        """Count an order's rows, unless that was done or its model has no budget.

        Raises `BudgetSpentError` where they would be more than there may be, and `SandboxError` where they cannot be written down.
        """
        most = manifest.document.privacy.rows_per_tenant
        if most is None:
            return
        key = (order.document.tenant, manifest.signer, manifest.document.name)
        try:
            with self._turn, self._database:
                self._database.execute("begin immediate")
                self._database.execute("delete from orders_counted where deadline < ?", (now - CLOCK_SKEW,))
                counted = self._database.execute(
                    "insert or ignore into orders_counted values (?, ?)", (order.digest, order.document.deadline)
                ).rowcount
                if counted:
                    self._add(key, order.document.rows, most)
        except sqlite3.Error as error:
            message = f"this node cannot write down what it computes: {error}"
            raise SandboxError(message) from error

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._database.close()

    def _add(self, key: tuple[str, str, str], rows: int, most: int) -> None:
        self._database.execute("insert or ignore into rows_computed values (?, ?, ?, 0)", key)
        before: int = self._database.execute(
            "select rows from rows_computed where tenant = ? and publisher = ? and model = ?", key
        ).fetchone()[0]
        if before + rows > most:
            message = f"model {key[2]!r} gives a tenant {most} rows; this node computed {before}, and the order asks for {rows}"
            raise BudgetSpentError(message)
        self._database.execute(
            "update rows_computed set rows = ? where tenant = ? and publisher = ? and model = ?", (before + rows, *key)
        )
