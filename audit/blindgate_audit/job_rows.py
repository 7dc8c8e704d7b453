"""Whether the jobs in the gateway's tables are those that clients ordered, nodes did, and the log tells of.

1. a job's row has the tenant, model, input, key and deadline of its order; `job_documents` has the order's digest;
2. the row of a job that succeeded has the node, lease and result of its receipt, `job_documents` has the receipt's digest;
3. the row of a job that ended has the state that the log tells of, the lease, and why; and the time, up to what two clocks of one
   gateway may be apart. When the order came is what the job's `job.submitted` states;
4. each lease that the log tells of, of a job that ended, has its attempt, with the node's name; and each attempt has its lease. The
   last attempt of a job that succeeded, and of one that was refused, says so, and no other does.

Rows are read before the documents. A job of which the log tells something afterwards may be ahead of its rows, and is let be. So is
one whose submission is not in the log: it is older. How a job came by an attempt that was lost or given back is in no other place.

Both sides are laid into a database that SQLite keeps in a file without a name, as in `records`.
"""

import json
import re
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from blindgate_audit.columns import Columns, TableRow, Value
from blindgate_audit.findings import Findings
from blindgate_audit.job_histories import ENDS
from blindgate_protocol.errors import JobCancelledError, JobDeadError, JobTimeoutError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import CLOCK_SKEW, Receipt
from blindgate_protocol.signing import Signed

_CODES: Final = {
    JobState.DEAD.value: JobDeadError.code,
    JobState.CANCELLED.value: JobCancelledError.code,
    JobState.EXPIRED.value: JobTimeoutError.code,
}
_OUTCOMES: Final = {JobState.SUCCEEDED.value: "succeeded", JobState.FAILED.value: "refused"}
"""What the last attempt says of a job that ended so, and no other attempt does."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_TABLES: Final = """
CREATE TABLE rows (kind, job, generation, columns, PRIMARY KEY (job, kind, generation)) WITHOUT ROWID;
CREATE TABLE leases (job, generation, node, entry, PRIMARY KEY (job, generation)) WITHOUT ROWID;
CREATE TABLE told (job PRIMARY KEY, submission, submitted, ended, entry) WITHOUT ROWID;
CREATE TABLE moved (job PRIMARY KEY) WITHOUT ROWID;
"""
_SUBMITTED: Final = """
SELECT rows.kind, rows.job, rows.columns, told.submitted, told.submission FROM rows JOIN told USING (job)
WHERE rows.kind IN ('jobs', 'ended_jobs') AND told.submitted IS NOT NULL ORDER BY told.submission
"""
_UNLEASED: Final = """
SELECT rows.job, rows.generation FROM rows JOIN told USING (job)
LEFT JOIN leases ON leases.job = rows.job AND leases.generation = CAST(rows.generation AS TEXT)
WHERE kind = 'attempts' AND leases.entry IS NULL AND told.submission IS NOT NULL AND rows.job NOT IN moved
ORDER BY 1, 2
"""
_ENDED: Final = """
SELECT rows.job, rows.columns, documents.columns, told.ended, told.entry FROM rows JOIN told USING (job)
LEFT JOIN rows AS documents ON documents.job = rows.job AND documents.kind = 'job_documents'
WHERE rows.kind = 'ended_jobs' AND told.ended IS NOT NULL AND rows.job NOT IN moved
ORDER BY told.entry
"""
_ATTEMPTS: Final = """
SELECT leases.job, leases.generation, leases.node, leases.entry, told.ended, attempts.columns FROM leases
JOIN told ON told.job = leases.job AND told.ended IS NOT NULL
JOIN rows AS kept ON kept.job = leases.job AND kept.kind = 'ended_jobs'
LEFT JOIN rows AS attempts
    ON attempts.job = leases.job AND attempts.kind = 'attempts' AND CAST(attempts.generation AS TEXT) = leases.generation
WHERE leases.job NOT IN moved ORDER BY leases.entry
"""


class JobRows:
    """Both sides, as they come in. To be closed."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, which SQLite deletes itself
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._names: dict[str, set[str]] = {}
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        kind, _, about = event.object.partition(":")
        if event.action is Action.NODE_ENROLLED:
            self._names.setdefault(about, set()).add(event.details.get("name", ""))
        if kind != "job":
            return
        if self._reading:
            self._database.execute("INSERT OR IGNORE INTO moved VALUES (?)", (about,))
        if event.action is Action.JOB_SUBMITTED:
            submission = (about, index, event.details.get("submitted"))
            self._database.execute("INSERT OR IGNORE INTO told VALUES (?, ?, ?, NULL, NULL)", submission)
        elif event.action is Action.JOB_LEASED:
            lease = (about, event.details.get("generation"), event.details.get("node"), index)
            self._database.execute("INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?)", lease)
        elif isinstance(event.action, Action) and event.action in ENDS:
            details = {name: event.details.get(name) for name in ("generation", "node")}
            end = {"state": ENDS[event.action].value, "time": event.time, "reason": event.reason, **details}
            ended = (about, json.dumps(end), index)
            self._database.execute(
                "INSERT INTO told VALUES (?, NULL, NULL, ?, ?) "
                "ON CONFLICT (job) DO UPDATE SET ended = excluded.ended, entry = excluded.entry",
                ended,
            )

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, table: str, row: Columns) -> None:
        """Take in a row of `jobs`, `ended_jobs`, `job_documents` or `attempts`."""
        generation = row.get("generation") if table == "attempts" else 0
        kept = (table, row.get("job"), generation, json.dumps(dict(row)))
        self._database.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", kept)

    def job(self, order: Signed[Order], receipt: Signed[Receipt] | None) -> None:
        """Take in a job on record by its order, which was verified, and its receipt where there is one that was."""
        document = order.document
        ordered = {
            "tenant": document.tenant,
            "manifest": document.model.manifest,
            "input_digest": document.input.digest,
            "evaluation_key": document.evaluation_key,
            "deadline": document.deadline,
        }
        ended = self._row("ended_jobs", document.job)
        for row in (self._row("jobs", document.job), ended):
            if row is not None:
                row.hold(self._findings, ordered, "its order")
        documents = self._row("job_documents", document.job)
        if documents is not None:
            documents.hold(self._findings, {"order_digest": order.digest}, "its order")
        if ended is None or receipt is None:
            return
        done = receipt.document
        said: dict[str, Value] = {"node": done.node, "generation": done.generation}
        said |= {"result_digest": done.output.digest, "result_size": done.output.size}
        ended.hold(self._findings, said, "its receipt")
        if documents is not None:
            documents.hold(self._findings, {"receipt_digest": receipt.digest}, "its receipt")

    def unlogged(self, erased: int) -> bool:
        """Whether an attempt has no lease in the log yet, erased ones apart."""
        return not erased and self._database.execute(_UNLEASED).fetchone() is not None

    def finish(self, *, erased: int) -> None:
        """Hold both sides against each other; `erased` events are gone, those of leases may be among them."""
        # 3.
        for table, job, columns, submitted, entry in self._database.execute(_SUBMITTED):
            if _NUMBER.fullmatch(submitted):
                said = {"submitted": int(submitted)}
                _made(job, table, columns).hold(self._findings, said, f"entry {entry}", index=entry)
        for job, columns, documents, ended, entry in self._database.execute(_ENDED):
            end, row = json.loads(ended), _made(job, "ended_jobs", columns)
            row.hold(self._findings, _said(end, row), f"entry {entry}", index=entry)
            if documents is not None:
                why = _made(job, "job_documents", documents)
                why.hold(self._findings, _because(end), f"entry {entry}", index=entry)
        # 4.
        for job, generation in self._database.execute(_UNLEASED) if not erased else ():
            self._findings.add(
                "row", f"job:{job}: it has an attempt {generation}, and no event of the log tells of that lease"
            )
        for job, generation, node, entry, ended, attempted in self._database.execute(_ATTEMPTS):
            if attempted is None:
                message = f"job:{job}: the lease {generation} that entry {entry} tells of has no row of attempts"
                self._findings.add("row", message, index=entry)
                continue
            self._hold_attempt(_made(job, "attempts", attempted), json.loads(ended), node, entry)

    def close(self) -> None:
        """Delete both sides."""
        self._database.close()

    def _hold_attempt(self, attempt: TableRow, end: Mapping[str, Any], node: str, entry: int) -> None:
        names = self._names.get(node, set())
        if names and attempt.get("node") not in names:
            said = {"node": ", ".join(sorted(names))}
            attempt.hold(self._findings, said, f"the node of entry {entry}", index=entry)
        is_last = str(attempt.get("generation")) == end["generation"]
        outcome = _OUTCOMES.get(end["state"]) if is_last else None
        if outcome is not None:
            said = {"outcome": outcome, "reason": ""} if outcome == "succeeded" else {"outcome": outcome}
            attempt.hold(self._findings, said, "how the job ended", index=entry)
            if not _is_about(attempt.get("ended"), end["time"]):
                attempt.hold(self._findings, {"ended": end["time"]}, "the job's end", index=entry)
        elif attempt.get("outcome") in _OUTCOMES.values():
            said_so = f"in its row of attempts, outcome is {attempt.get('outcome')!r}"
            message = f"{attempt.about}: {said_so}; the job did not end so with this lease"
            self._findings.add("row", message, index=entry)

    def _row(self, kind: str, job: str) -> TableRow | None:
        found = self._database.execute("SELECT columns FROM rows WHERE job = ? AND kind = ?", (job, kind)).fetchone()
        return None if found is None else _made(job, kind, found[0])


def _made(job: str, table: str, columns: str) -> TableRow:
    return TableRow(f"job:{job}", table, json.loads(columns))


def _said(end: Mapping[str, Any], row: TableRow) -> dict[str, Any]:
    """What an end that was told says of the columns of its row."""
    said: dict[str, Any] = {"state": end["state"]}
    if _NUMBER.fullmatch(end["generation"] or ""):
        said["generation"] = int(end["generation"])
    if end["node"] is not None:
        said["node"] = end["node"]
    if not _is_about(row.get("ended"), end["time"]):
        said["ended"] = end["time"]
    return said


def _because(end: Mapping[str, Any]) -> Columns:
    """What an end that was told says of why, in `job_documents`."""
    if end["state"] == JobState.SUCCEEDED.value:
        return {"code": None, "reason": None}
    if end["state"] == JobState.FAILED.value:  # the log has the code; the node's words are in no other place
        return {"code": end["reason"]}
    code: dict[str, Value] = {"code": _CODES[end["state"]]}
    return code if end["state"] == JobState.DEAD.value else {**code, "reason": end["reason"]}


def _is_about(time: Any, told: Any) -> bool:
    """Whether two clocks of one gateway may have said so of one moment."""
    return isinstance(time, int) and isinstance(told, int) and abs(time - told) <= CLOCK_SKEW
