"""Whether what must be stored is stored, and is counted.

1. the parts of each model are there, and the input of each job that has not ended; of one that has, its input and result until the
   shortest time is over for which any gateway says, or said, that it keeps them. The blobs of keys are held by `key_rows`;
2. a blob has the size that manifests, orders and receipts give for its digest;
3. bytes that lie in the database have the digest that the row says, by the gateway's own reckoning; of others the store's object is
   named. Whoever is sent those holds them against the digest;
4. a tenant has stored as many bytes as its blobs and open uploads have, added up by the gateway at one moment; a tenant with blobs
   has its row.

What nobody needs any more is deleted at any time after that, without an event. Rows of jobs are read before those of blobs: a job
of which the log tells something afterwards is let be. A gateway of before shows keys' blobs alone, and nothing of these is held.
"""

import json
import sqlite3
from collections.abc import Callable
from typing import Final

from blindgate_audit.columns import Columns, TableRow, Value, number
from blindgate_audit.findings import Findings
from blindgate_audit.moments import now
from blindgate_protocol.events import Action, Event
from blindgate_protocol.manifest import Manifest
from blindgate_protocol.order import Order
from blindgate_protocol.oversight import ELSEWHERE
from blindgate_protocol.receipts import CLOCK_SKEW, Receipt
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef, Millis

_TABLES: Final = """
CREATE TABLE blobs (tenant, digest, size, PRIMARY KEY (tenant, digest)) WITHOUT ROWID;
CREATE TABLE needed (what, about, tenant, digest, job, ended, PRIMARY KEY (tenant, digest, about, what)) WITHOUT ROWID;
CREATE TABLE sizes (tenant, digest, size, source, PRIMARY KEY (tenant, digest)) WITHOUT ROWID;
CREATE TABLE moved (job PRIMARY KEY) WITHOUT ROWID;
"""
_MISSING: Final = """
SELECT about, what, tenant, needed.digest FROM needed LEFT JOIN blobs USING (tenant, digest)
WHERE blobs.tenant IS NULL AND job NOT IN moved AND (ended IS NULL OR ended > ?) ORDER BY 1, 2
"""
_OTHER_SIZE: Final = """
SELECT blobs.tenant, blobs.digest, blobs.size, sizes.size, sizes.source FROM blobs JOIN sizes USING (tenant, digest)
WHERE blobs.size IS NOT sizes.size ORDER BY 1, 2
"""


class BlobRows:
    """Both sides, as they come in. To be closed. `clock` is the auditor's."""

    def __init__(self, findings: Findings, clock: Callable[[], Millis] = now) -> None:
        self._findings, self._clock = findings, clock
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, which SQLite deletes itself
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._kept: Millis | None = None
        self._counts: dict[Value, TableRow] = {}
        self._reading = False

    def tell(self, _index: int, event: Event) -> None:
        """Take in an event of the log."""
        if event.action is Action.RETENTION_CHANGED:
            for name in ("retention", "retention-before"):
                self._keep(number(event.details.get(name)))
        if self._reading and event.object.startswith("job:"):
            self._database.execute("INSERT OR IGNORE INTO moved VALUES (?)", (event.object.removeprefix("job:"),))

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def gateway(self, row: Columns) -> None:
        """Take in a row of `gateways`."""
        try:
            kept = json.loads(str(row.get("kept")))
        except ValueError:
            return  # its own row is held
        if isinstance(kept, dict):
            self._keep(number(kept.get("retention")))

    def model(self, tenant: Value, manifest: Signed[Manifest]) -> None:
        """Take in a model, whose manifest was verified, and whose it is."""
        about = f"model:{manifest.document.name}/{manifest.document.version}"
        for what, part in (("client part", manifest.document.client), ("server part", manifest.document.server)):
            if part is None:
                continue
            self._need(what, about, tenant, part.digest, "", None)
            self._size(tenant, part, "its manifest")

    def job(self, table: str, row: Columns) -> None:
        """Take in a row of `jobs` or `ended_jobs`."""
        about, tenant, job = f"job:{row.get('job')}", row.get("tenant"), row.get("job")
        if table == "jobs":
            self._need("input", about, tenant, row.get("input_digest"), job, None)
            return
        for what in ("input", "result"):
            if (digest := row.get(f"{what}_digest")) is not None:
                self._need(what, about, tenant, digest, job, row.get("ended"))

    def documents(self, order: Signed[Order], receipt: Signed[Receipt] | None) -> None:
        """Take in what a job's documents, which were verified, say of sizes."""
        self._size(order.document.tenant, order.document.input, f"the order of job:{order.document.job}")
        if receipt is not None:
            self._size(order.document.tenant, receipt.document.output, f"the receipt of job:{order.document.job}")

    def blob(self, row: Columns) -> None:
        """Take in a row of `blobs`."""
        if "data" not in row:
            return
        columns = tuple(map(row.get, ("tenant", "digest", "size")))
        self._database.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", columns)
        # 3.
        if row.get("data") not in {ELSEWHERE, row.get("digest")}:
            about = _about(row.get("tenant"), row.get("digest"))
            message = f"{about}: in its row of blobs, data is {row.get('data')!r}; the digest of its bytes is another"
            self._findings.add("row", message)

    def count(self, row: Columns) -> None:
        """Take in a row of `stored_bytes`."""
        self._counts[row.get("tenant")] = TableRow(f"tenant {row.get('tenant')}", "stored_bytes", row)

    def finish(self, *, erased: int) -> None:
        """Hold both sides against each other; `erased` events are gone: that things were kept for less time may be among them."""
        # 1.
        since = self._clock() + CLOCK_SKEW - (0 if self._kept is None or erased else self._kept)
        for about, what, tenant, digest in self._database.execute(_MISSING, (since,)):
            self._findings.add("row", f"{about}: its {what} {digest} has no row of blobs at tenant {tenant}")
        # 2.
        for tenant, digest, has, size, source in self._database.execute(_OTHER_SIZE):
            row = TableRow(_about(tenant, digest), "blobs", {"size": has})
            row.hold(self._findings, {"size": size}, source)
        # 4.
        for row in self._counts.values():
            row.hold(self._findings, {"bytes": row.get("really")}, "what it has stored, added up,")
        for (tenant,) in self._database.execute("SELECT DISTINCT tenant FROM blobs ORDER BY 1"):
            if tenant not in self._counts:
                self._findings.add("row", f"tenant {tenant}: it has blobs, and no row of stored_bytes")

    def close(self) -> None:
        """Delete both sides."""
        self._database.close()

    def _keep(self, retention: Millis | None) -> None:
        if retention is not None:
            self._kept = retention if self._kept is None else min(self._kept, retention)

    def _need(self, what: str, about: str, *row: Value) -> None:
        """`row`: tenant, digest, job, and when that ended."""
        self._database.execute("INSERT OR IGNORE INTO needed VALUES (?, ?, ?, ?, ?, ?)", (what, about, *row))

    def _size(self, tenant: Value, blob: BlobRef, source: str) -> None:
        self._database.execute(
            "INSERT OR IGNORE INTO sizes VALUES (?, ?, ?, ?)", (tenant, blob.digest, blob.size, source)
        )


def _about(tenant: Value, digest: Value) -> str:
    return f"blob {digest} of tenant {tenant}"
