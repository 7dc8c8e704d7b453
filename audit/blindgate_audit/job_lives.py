"""What the log tells of jobs, and the gateway's rows of them, laid beside each other (`job_rows`, `attempt_rows`).

Both are laid into a database that SQLite keeps in a file without a name, as in `records`. Rows are read before the records; of a
job that the log tells of afterwards the row may be behind, so that such a job is `moved`, and let be.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final

from blindgate_audit.columns import Columns, TableRow
from blindgate_audit.job_histories import ENDS
from blindgate_protocol.events import Action, Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.values import Millis

Told = Mapping[str, Any]
"""What an event says: its details, and `state`, `time`, `reason`, `entry`."""

_OUTCOMES: Final = {JobState.SUCCEEDED.value: "succeeded", JobState.FAILED.value: "refused"}
_TABLES: Final = """
CREATE TABLE rows (kind, job, generation, columns, PRIMARY KEY (job, kind, generation)) WITHOUT ROWID;
CREATE TABLE told (job, what, generation, said, PRIMARY KEY (job, what, generation)) WITHOUT ROWID;
CREATE TABLE moved (job PRIMARY KEY) WITHOUT ROWID;
"""
_SAY_ONCE: Final = "INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?)"
_SAY_AGAIN: Final = "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)"
_ROWS: Final = """
SELECT rows.job, rows.kind, rows.columns FROM rows
WHERE rows.kind IN ('jobs', 'ended_jobs') AND rows.job NOT IN moved
    AND EXISTS (SELECT 1 FROM told WHERE told.job = rows.job AND told.what = 'submitted')
ORDER BY 1
"""
_ABSENT: Final = """
SELECT record.job, json_extract(submission.said, '$.entry'), 'jobs or ended_jobs' FROM told AS record
JOIN told AS submission ON submission.job = record.job AND submission.what = 'submitted'
WHERE record.what = 'record' AND record.job NOT IN moved
    AND NOT EXISTS (SELECT 1 FROM rows WHERE rows.job = record.job AND rows.kind IN ('jobs', 'ended_jobs'))
UNION ALL
SELECT record.job, json_extract(submission.said, '$.entry'), 'job_documents' FROM told AS record
JOIN told AS submission ON submission.job = record.job AND submission.what = 'submitted'
WHERE record.what = 'record' AND record.job NOT IN moved
    AND NOT EXISTS (SELECT 1 FROM rows WHERE rows.job = record.job AND rows.kind = 'job_documents')
ORDER BY 1
"""
_UNSUBMITTED: Final = """
SELECT job, kind FROM rows WHERE kind IN ('jobs', 'ended_jobs') AND job NOT IN moved
    AND NOT EXISTS (SELECT 1 FROM told WHERE told.job = rows.job AND told.what = 'submitted')
    AND coalesce(json_extract(columns, '$.submitted') >= ?, 1) ORDER BY 1
"""
_LEASES: Final = """
SELECT job, generation FROM told WHERE what = 'lease' AND job NOT IN moved
    AND EXISTS (SELECT 1 FROM rows WHERE rows.job = told.job AND rows.kind IN ('jobs', 'ended_jobs'))
ORDER BY json_extract(said, '$.entry')
"""
_UNLEASED: Final = """
SELECT rows.job, rows.generation FROM rows
WHERE kind = 'attempts' AND job NOT IN moved
    AND EXISTS (SELECT 1 FROM told WHERE told.job = rows.job AND told.what = 'submitted')
    AND NOT EXISTS (SELECT 1 FROM told
                    WHERE told.job = rows.job AND what = 'lease' AND told.generation = CAST(rows.generation AS TEXT))
ORDER BY 1, 2
"""


class JobLives:
    """Both, as they come in. To be closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, which SQLite deletes itself
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._reading = False
        self._began: Millis | None = None

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._began = event.time if self._began is None else min(self._began, event.time)
        kind, _, job = event.object.partition(":")
        if kind != "job":
            return
        if self._reading:
            self._database.execute("INSERT OR IGNORE INTO moved VALUES (?)", (job,))
        end = ENDS.get(event.action) if isinstance(event.action, Action) else None
        state = event.after if end is None else end.value
        said = {**event.details, "state": state, "time": event.time, "reason": event.reason, "entry": index}
        generation = event.details.get("generation", "")
        match event.action:
            case Action.JOB_SUBMITTED:
                self._say(job, "submitted", "", said, again=False)
                self._say(job, "last", "", said)
            case Action.JOB_LEASED:
                self._say(job, "lease", generation, said, again=False)
                self._say(job, "last", "", said)
            case Action.JOB_RESENT:
                self._say(job, "resent", "", said)
                self._say(job, "last", "", said)
            case Action.JOB_ACKNOWLEDGED:
                self._say(job, "acknowledged", "", said, again=False)
            case Action.JOB_RETURNED:
                self._say(job, "attempt", generation, said, again=False)
                self._say(job, "last", "", said)
            case _ if end is not None:
                if "node" in event.details and "ended" in event.details:
                    went = {"outcome": _OUTCOMES.get(str(state), state)} | said
                    self._say(job, "attempt", generation, went, again=False)
                self._say(job, "last", "", said)

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._reading = True

    def row(self, table: str, row: Columns) -> None:
        """Take in a row of `jobs`, `ended_jobs`, `job_documents` or `attempts`."""
        generation = row.get("generation") if table == "attempts" else 0
        kept = (table, row.get("job"), generation, json.dumps(dict(row)))
        self._database.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", kept)

    def record(self, job: str) -> None:
        """Take in that a job is on record."""
        self._say(job, "record", "", {})

    def find(self, table: str, job: str, generation: int = 0) -> TableRow | None:
        """A job's row, or the one of an attempt."""
        found = self._database.execute(
            "SELECT columns FROM rows WHERE job = ? AND kind = ? AND generation = ?", (job, table, generation)
        ).fetchone()
        return None if found is None else TableRow(f"job:{job}", table, json.loads(found[0]))

    def told(self, job: str, what: str, generation: object = "") -> Told | None:
        """What the log said of a job: `submitted`, `last`, `resent` or `acknowledged`; of a generation: `lease` or `attempt`."""
        found = self._database.execute(
            "SELECT said FROM told WHERE job = ? AND what = ? AND generation = ?", (job, what, str(generation))
        ).fetchone()
        return None if found is None else json.loads(found[0])

    def jobs(self) -> Iterator[tuple[str, TableRow]]:
        """The rows of `jobs` and `ended_jobs` whose submission the log tells of, and that did not move."""
        for job, table, columns in self._database.execute(_ROWS):
            yield job, TableRow(f"job:{job}", table, json.loads(columns))

    def absent(self) -> Iterator[tuple[str, int, str]]:
        """Each job on record that has no row in a table, with the entry that tells of its submission."""
        yield from self._database.execute(_ABSENT)

    def unsubmitted(self) -> Iterator[tuple[str, str]]:
        """Job and table of each row whose submission the log does not tell of, though it had begun."""
        yield from self._database.execute(_UNSUBMITTED, ((self._began or 0) + CLOCK_SKEW,))

    def leases(self) -> Iterator[tuple[str, str]]:
        """Job and generation of each lease that the log tells of, of jobs that have a row and did not move."""
        yield from self._database.execute(_LEASES)

    def unleased(self) -> Iterator[tuple[str, object]]:
        """Job and generation of each attempt whose lease the log does not tell of, though it does of the job's submission."""
        yield from self._database.execute(_UNLEASED)

    def close(self) -> None:
        """Delete both."""
        self._database.close()

    def _say(self, job: str, what: str, generation: str, said: Told, *, again: bool = True) -> None:
        row = (job, what, generation, json.dumps(said))
        self._database.execute(_SAY_AGAIN if again else _SAY_ONCE, row)
