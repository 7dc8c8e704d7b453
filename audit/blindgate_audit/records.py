"""Whether what the gateway has on record and what its log tells are the same.

The gateway keeps signed documents: each statement about an evaluation key, each receipt. For each of them an event was
logged, with the document's digest. So:

1. a statement or a receipt on record is signed by whom it names, and its event stands in the log: an event that never came, or
   that was taken out of a log which was then built and signed anew, is named by its key or job;
2. a statement or a receipt that an event tells of is on record, or was deleted when its time was over, as later events tell
   (`records.deleted`: in its details `kind`, `keys` or `jobs`; `count`, how many; `until`, of what came up to then, in
   milliseconds since 1970);
3. the statements about one key follow on each other (`keys.check_statement`): one that is missing leaves a gap that nobody but
   its owner could close;
4. a job or a node on record is the one that the log tells of (`job_histories`, `node_records`);
5. the columns of the gateway's tables say what documents and log say (`rows`).

What this cannot show: a document whose record and event are both gone, where nothing follows on it. Its owner can (`blindgate
audit monitor`).

Records come in an order of their own. Both sides are laid into a database that SQLite keeps in a file without a name, so a million
of them cost no memory.
"""

import re
import sqlite3
from collections.abc import Mapping
from typing import Final

from blindgate_audit.findings import Findings
from blindgate_audit.job_histories import JobHistories
from blindgate_audit.node_records import NodeHistories
from blindgate_audit.rows import Rows
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.keys import KeyStatement, check_statement
from blindgate_protocol.messages import JobRecord
from blindgate_protocol.oversight import NodeRecord, StatementRecord
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed, open_signed

STATED: Final = frozenset(
    {
        Action.KEY_REGISTERED,
        Action.KEY_ACTIVATED,
        Action.KEY_SUSPENDED,
        Action.KEY_RESUMED,
        Action.KEY_SUPERSEDED,
        Action.KEY_DEACTIVATED,
        Action.KEY_COMPROMISED,
        Action.KEY_DESTRUCTION_SCHEDULED,
        Action.KEY_DESTROYED,
    }
)
"""Events of a key that a statement of its owner brings about; the digest, where there is one, is the statement's."""

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_TABLES: Final = """
CREATE TABLE told (kind TEXT, about TEXT, digest TEXT, entry INTEGER, time INTEGER,
                   PRIMARY KEY (kind, about, digest)) WITHOUT ROWID;
CREATE TABLE kept (kind TEXT, about TEXT, digest TEXT, what TEXT,
                   PRIMARY KEY (kind, about, digest)) WITHOUT ROWID;
"""
_WITHOUT_EVENT: Final = """
SELECT about, what FROM kept
WHERE NOT EXISTS
    (SELECT 1 FROM told WHERE (told.kind, told.about, told.digest) = (kept.kind, kept.about, kept.digest))
ORDER BY kind, about, what
"""
_WITHOUT_RECORD: Final = """
SELECT entry, about, digest, time FROM told
WHERE kind = ? AND NOT EXISTS
    (SELECT 1 FROM kept WHERE (kept.kind, kept.about, kept.digest) = (told.kind, told.about, told.digest))
ORDER BY entry
"""


class Records:
    """Both sides, as they come in. To be closed.

    Attributes:
        rows: where rows of tables are taken in, before everything else that is on record.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, which SQLite deletes itself
        self._database.executescript(_TABLES)
        self._histories, self._nodes = JobHistories(findings), NodeHistories(findings)
        self.rows = Rows(findings)
        self._database.execute("BEGIN")
        self._last: Signed[KeyStatement] | None = None
        self._deleted = {"keys": (0, -1), "jobs": (0, -1)}
        self._late: list[tuple[str, str]] = []
        self.statements = 0
        self.receipts = 0
        self.nodes = 0

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._histories.tell(index, event)
        self._nodes.tell(index, event)
        self.rows.tell(index, event)
        if event.action is Action.RECORDS_DELETED:
            self._delete(index, event)
        kind = "keys" if event.action in STATED else "jobs" if event.action is Action.JOB_SUCCEEDED else None
        if kind is not None and event.digest is not None:
            row = (kind, event.object, event.digest, index, event.time)
            self._database.execute("INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?, ?)", row)

    def begin(self) -> None:
        """From now on records are read. What is told after this may be of what came since, and is not missed on record."""
        self._histories.begin()
        self._nodes.begin()
        self.rows.begin()

    def statement(self, record: StatementRecord) -> None:
        """Take in a statement on record; they come by tenant, key and sequence number."""
        try:
            signed = open_signed(record.statement, KeyStatement)
        except BlindgateError as error:
            self._findings.add("record", f"a statement about a key of tenant {record.tenant}: {error}")
            return
        document = signed.document
        if document.tenant != record.tenant:
            message = f"key:{document.key.digest}: a statement of tenant {document.tenant} is on record as one of {record.tenant}"
            self._findings.add("record", message)
        about = f"key:{document.key.digest}"
        what = f"statement {document.sequence} ({document.state.value}) of tenant {document.tenant}"
        before = self._last
        if before is not None and (before.document.tenant, before.document.key) != (document.tenant, document.key):
            before = None
        try:
            if before is None and document.sequence > 1:
                self._late.append((about, what))
            else:
                check_statement(signed, before)
        except BlindgateError as error:
            came_from = (
                "it is the first" if before is None else f"statement {before.document.sequence} stands before it"
            )
            self._findings.add("record", f"{about}: {what}: {error}; {came_from}")
        self._last = signed
        self.statements += 1
        self.rows.statement(record, signed)
        self._keep("keys", about, signed.digest, what)

    def job(self, record: JobRecord) -> None:
        """Take in a job on record."""
        signed = None
        try:
            signed = None if record.receipt is None else open_signed(record.receipt, Receipt)
        except BlindgateError as error:
            self._findings.add("record", f"job:{record.job}: its receipt: {error}")
        order = self._histories.job(record, None if signed is None else signed.document)
        if order is not None:
            self.rows.job(order, signed)
        if signed is None:
            return
        document = signed.document
        if (document.job, document.tenant) != (record.job, record.tenant) or signed.signer != document.node:
            message = f"job:{record.job}: its receipt is of job {document.job} of {document.tenant}, signed by {signed.signer}"
            self._findings.add("record", message)
        self.receipts += 1
        self._keep("jobs", f"job:{record.job}", signed.digest, f"the receipt of node {document.node}")

    def node(self, record: NodeRecord) -> None:
        """Take in a node on record."""
        self._nodes.node(record)
        self.nodes += 1

    def names(self, listed: Mapping[str, str]) -> None:
        """Take in how the gateway translates all pseudonyms."""
        self._histories.names(listed)
        self.rows.names(listed)

    def unlogged(self, *, erased: int = 0) -> bool:
        """Whether a record has no event yet: it may have come after the checkpoint, and more events may tell.

        As many as were `erased` are not waited for.
        """
        late = self._histories.unlogged(erased) or self._nodes.unlogged(erased) or self.rows.unlogged(erased)
        return late or sum(1 for _ in self._database.execute(_WITHOUT_EVENT)) > erased

    def finish(self, *, erased: int = 0) -> int:
        """Hold both sides against each other, once all was taken in.

        `erased` events are gone, as others tell: the events of as many records may be among them, and nobody can say which. Gives
        how many records are taken for such.
        """
        # 1.
        hidden = sum(1 for _ in self._database.execute(_WITHOUT_EVENT))
        if hidden > erased:
            for about, what in self._database.execute(_WITHOUT_EVENT):
                self._findings.add("record", f"{about}: {what} is on record, and no event of the log tells of it")
            hidden = 0
        # 2.
        for kind, (count, until) in self._deleted.items():
            over = 0
            for index, about, digest, time in self._database.execute(_WITHOUT_RECORD, (kind,)):
                over += time <= until
                if time > until or over > count:
                    message = f"{about}: the document {digest} that entry {index} tells of is not on record"
                    if until >= 0:
                        message += f"; the log tells of {count} that were deleted, of up to {until} ms since 1970"
                    self._findings.add("record", message, index=index)
        # 3.
        if not self._deleted["keys"][0]:
            for about, what in self._late:
                self._findings.add("record", f"{about}: {what} is the first on record: those before it are gone")
        # 5.
        self.rows.finish(erased=erased)
        # 4.
        self._nodes.finish(erased=erased)
        count, until = self._deleted["jobs"]
        return max(hidden, self._histories.finish(erased=erased, deleted=count, until=until))

    def close(self) -> None:
        """Delete both sides."""
        self._histories.close()
        self.rows.close()
        self._database.close()

    def _keep(self, kind: str, about: str, digest: str, what: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?)", (kind, about, digest, what))

    def _delete(self, index: int, event: Event) -> None:
        kind, count, until = (event.details.get(name, "") for name in ("kind", "count", "until"))
        if kind not in self._deleted or not _NUMBER.fullmatch(count) or not _NUMBER.fullmatch(until):
            message = f"entry {index} tells of deleted records and does not say of which kind, how many, and up to when"
            self._findings.add("record", message, index=index)
            return
        so_far, latest = self._deleted[kind]
        self._deleted[kind] = (so_far + int(count), max(latest, int(until)))
