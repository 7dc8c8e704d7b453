"""Whether the jobs in the gateway's tables are those that clients ordered, nodes did, and the log tells of.

1. a job's row has the tenant, model, input, key and deadline of its order; `job_documents` has the order's digest;
2. the row of a job that succeeded has the node, lease and result of its receipt, `job_documents` has the receipt's digest;
3. a job's row has what its `job.submitted` states: when the order came, and how urgent it is; `job_documents` has the seal that
   came along, by its digest; and the row the lease that the log tells of
   last, with its node and what opens it;
4. a job that ended did so as, when and because the log tells, and was acknowledged when the log tells;
5. a job that has not ended waits, or is leased, as the log tells; it is held exactly while its key is suspended, or to be
   destroyed; and it waits in a queue of its tenant, its model's family and operators whom its order allows (`queue_rows`);
6. its attempts are held by `attempt_rows`.

Of a gateway of before, whose events state less, no more is held than they state: when a job ended, up to what two clocks of one
gateway may be apart. A job whose submission is not in the log is older than it, and is held by its documents alone. Until when a
lease goes on, and what it has stored so far, is told by nobody else: a node's next command finds it out.
"""

from collections.abc import Mapping
from typing import Any, Final

from blindgate_audit.attempt_rows import AttemptRows, is_about
from blindgate_audit.columns import Columns, TableRow, Value, number
from blindgate_audit.findings import Findings
from blindgate_audit.job_lives import JobLives, Told
from blindgate_audit.queue_rows import QueueRows
from blindgate_protocol.errors import JobCancelledError, JobDeadError, JobTimeoutError
from blindgate_protocol.events import Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import HOLDING
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed

_CODES: Final = {
    JobState.DEAD.value: JobDeadError.code,
    JobState.CANCELLED.value: JobCancelledError.code,
    JobState.EXPIRED.value: JobTimeoutError.code,
}
_MOST_TEXT: Final = 2000
"""Where the gateway cuts a text off."""


class JobRows:
    """Both sides, as they come in. To be closed."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._lives = JobLives()
        self._attempts = AttemptRows(findings, self._lives)
        self._queues = QueueRows(findings)
        self._keys: dict[tuple[Value, Value], Value] = {}
        self._moved_keys: set[str] = set()
        self._reading = False

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._lives.tell(index, event)
        self._attempts.tell(event)
        if self._reading and event.object.startswith("key:"):
            self._moved_keys.add(event.object.removeprefix("key:"))

    def begin(self) -> None:
        """From now on rows are read: what is told is later."""
        self._lives.begin()
        self._reading = True

    def key(self, row: Columns) -> None:
        """Take in a row of `keys`."""
        self._keys[row.get("tenant"), row.get("digest")] = row.get("state")

    def row(self, table: str, row: Columns) -> None:
        """Take in a row of `jobs`, `ended_jobs`, `job_documents`, `attempts`, `queues` or `queue_operators`."""
        if table in {"queues", "queue_operators"}:
            self._queues.row(table, row)
        else:
            self._lives.row(table, row)

    def job(self, order: Signed[Order], receipt: Signed[Receipt] | None, families: Mapping[str, str]) -> None:
        """Take in a job on record by its order, which was verified, and its receipt where there is one that was.

        `families` are those of models, by their manifests' digests.
        """
        document = order.document
        ordered = {
            "tenant": document.tenant,
            "manifest": document.model.manifest,
            "input_digest": document.input.digest,
            "evaluation_key": document.evaluation_key,
            "deadline": document.deadline,
        }
        self._lives.record(document.job)
        waits, ended = self._lives.find("jobs", document.job), self._lives.find("ended_jobs", document.job)
        for row in (waits, ended):
            if row is not None:
                row.hold(self._findings, ordered, "its order")
        if waits is not None:
            self._queues.hold(waits, document, families.get(document.model.manifest))
        documents = self._lives.find("job_documents", document.job)
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
        """Whether a job has no submission, or an attempt no lease, in the log yet, erased ones apart."""
        return not erased and (next(self._lives.unsubmitted(), None) is not None or self._attempts.unlogged())

    def finish(self, *, erased: int) -> None:
        """Hold both sides against each other; `erased` events are gone, those of leases may be among them."""
        self._queues.finish()
        for job, entry, table in self._lives.absent():
            message = f"job:{job}: it is on record, as entry {entry} tells, and has no row of {table}"
            self._findings.add("row", message, index=entry)
        for job, table in self._lives.unsubmitted() if not erased else ():
            self._findings.add("row", f"job:{job}: it has a row of {table}, and no event of the log tells of it")
        for job, row in self._lives.jobs():
            submitted, last = self._lives.told(job, "submitted"), self._lives.told(job, "last")
            if submitted is None or last is None:
                continue
            self._hold_submission(row, submitted)
            self._hold_lease(job, row, erased=erased)
            if row.table == "ended_jobs":
                self._hold_end(job, row, last, erased=erased)
            else:
                self._hold_open(job, row, submitted, last, erased=erased)
        self._attempts.finish(erased=erased)

    def close(self) -> None:
        """Delete both sides."""
        self._lives.close()

    def _hold_submission(self, row: TableRow, told: Told) -> None:
        came, priority = number(told.get("submitted")), number(told.get("priority"))
        said: dict[str, Value] = {} if came is None else {"submitted": came}
        if priority is not None:
            said["rank"] = -priority
        row.hold(self._findings, said, f"entry {told['entry']}", index=told["entry"])
        documents = self._lives.find("job_documents", row.about.removeprefix("job:"))
        if documents is not None and "seal" in documents.columns:
            sealed = {"seal": told.get("seal")}
            documents.hold(self._findings, sealed, f"entry {told['entry']}", index=told["entry"])

    def _hold_lease(self, job: str, row: TableRow, *, erased: int) -> None:
        """A row names the last lease, also after that has ended."""
        lease = self._lives.told(job, "lease", row.get("generation"))
        if lease is not None and "token" in lease:
            said = {"node": lease.get("node"), "token": lease["token"]}
            row.hold(self._findings, said, f"entry {lease['entry']}", index=lease["entry"])
        elif row.get("generation") == 0:
            row.hold(self._findings, {"node": None, "token": None}, "that it was never leased")
        elif lease is None and not erased:
            said_so = f"in its row of {row.table}, generation is {row.get('generation')!r}"
            message = f"{row.about}: {said_so}; no event tells of that lease"
            self._findings.add("row", message)

    def _hold_end(self, job: str, row: TableRow, end: Told, *, erased: int) -> None:
        if end["state"] not in {state.value for state in JobState if state.ended}:
            return  # others say so
        entry, source = end["entry"], f"entry {end['entry']}"
        row.hold(self._findings, _said(end, row), source, index=entry)
        documents = self._lives.find("job_documents", job)
        if documents is None:
            return
        attempt = self._lives.find("attempts", job, number(end.get("generation")) or 0)
        documents.hold(self._findings, _because(end, attempt, documents), source, index=entry)
        acknowledged = self._lives.told(job, "acknowledged")
        if acknowledged is not None:
            said = {"acknowledged": number(acknowledged.get("acknowledged"))}
            documents.hold(self._findings, said, f"entry {acknowledged['entry']}", index=acknowledged["entry"])
        elif "ended" in end and not erased:
            documents.hold(self._findings, {"acknowledged": None}, "the log, where nothing tells of it,")
        if "ended" in end and end["state"] != JobState.SUCCEEDED.value:
            row.hold(self._findings, {"result_digest": None, "result_size": None}, source, index=entry)
            documents.hold(self._findings, {"receipt_digest": None}, source, index=entry)

    def _hold_open(self, job: str, row: TableRow, submitted: Told, last: Told, *, erased: int) -> None:
        if "priority" not in submitted:  # told by a gateway of before, which said nothing of lost leases
            return
        entry, source = last["entry"], f"entry {last['entry']}"
        said: dict[str, Value] = {} if erased else {"state": last["state"]}
        resent = self._lives.told(job, "resent")
        if resent is None and not erased:
            said["spent"] = 0
        elif resent is not None and "generation" in resent:
            said["spent"] = number(resent["generation"])
        if last["entry"] == submitted["entry"]:
            said["generation"] = 0
        elif (generation := number(last.get("generation"))) is not None:
            said["generation"] = generation
        row.hold(self._findings, said, source, index=entry)
        documents = self._lives.find("job_documents", job)
        if documents is not None and not erased:
            nothing = dict.fromkeys(("code", "reason", "receipt_digest", "acknowledged"))
            documents.hold(self._findings, nothing, source, index=entry)
        key = row.get("evaluation_key")
        state = self._keys.get((row.get("tenant"), key))
        if key not in self._moved_keys and (key is None or state is not None):
            held = int(state in {one.value for one in HOLDING})
            row.hold(self._findings, {"held": held}, "that it has no key" if key is None else f"its key, {state},")


def _said(end: Told, row: TableRow) -> dict[str, Any]:
    """What an end that was told says of the columns of its row."""
    said: dict[str, Any] = {"state": end["state"]}
    if (generation := number(end.get("generation"))) is not None:
        said["generation"] = generation
    if end.get("node") is not None:
        said["node"] = end["node"]
    if (ended := number(end.get("ended"))) is not None:
        said["ended"] = ended
    elif not is_about(row.get("ended"), end["time"]):
        said["ended"] = end["time"]
    return said


def _because(end: Told, attempt: TableRow | None, documents: TableRow) -> Columns:
    """What an end that was told says of why, in `job_documents`; a node's words stand in the last `attempt` too."""
    words = None if attempt is None else attempt.get("reason")
    if end["state"] == JobState.SUCCEEDED.value:
        return {"code": None, "reason": None}
    if end["state"] == JobState.FAILED.value:
        said: dict[str, Value] = {"code": end["reason"]}
        if "words" in end and isinstance(words, str) and f"{end['reason']}: {documents.get('reason')}" != words:
            said["reason"] = words.removeprefix(f"{end['reason']}: ")
        return said
    code: dict[str, Value] = {"code": _CODES[end["state"]]}
    if end["state"] != JobState.DEAD.value:
        return {**code, "reason": end["reason"]}
    if "attempt" in end and isinstance(words, str):
        code["reason"] = f"attempt {end['attempt']} of {end.get('most')}: {words}"[:_MOST_TEXT]
    return code
