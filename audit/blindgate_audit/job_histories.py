"""Whether the jobs on record are those that the log tells of.

A job is on record with its order, which its client signed, and with the state that the gateway's tables give it. So:

1. the order is signed by the client that it names, is of this job and tenant, and is the one whose digest the job's `job.submitted`
   has;
2. the blobs that it has on record are those that the order and the receipt name;
3. where the job has ended on record, that is the end that the log tells of last; and where the log tells of an end, the job has
   ended on record;
4. a job that the log tells of is on record, or was deleted when its time was over (`records`);
5. the tenant whose pseudonym the job's `job.submitted` has goes by the name that the client signed, wherever the gateway translates
   the pseudonym: it says no other name, and none only where it was erased, as an event tells.

A success is held by its receipt instead, in 3. where its event is missing, and in 4. (`records`).

A job whose order is older than the log has no such event, and is none that is missed. Jobs go on while they are read: what was told
after reading them began may be ahead of the records, and is no contradiction.

Whatever is not found may be among `erased` events, as in `records`.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

from blindgate_audit.findings import Findings
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.events import Action, Event
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRecord
from blindgate_protocol.order import Order
from blindgate_protocol.receipts import CLOCK_SKEW, Receipt
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import Millis

ENDS: Final = {
    Action.JOB_SUCCEEDED: JobState.SUCCEEDED,
    Action.JOB_FAILED: JobState.FAILED,
    Action.JOB_DEAD: JobState.DEAD,
    Action.JOB_CANCELLED: JobState.CANCELLED,
    Action.JOB_EXPIRED: JobState.EXPIRED,
}
"""In which state a job is from an event on."""
_OPEN: Final = {Action.JOB_SUBMITTED, Action.JOB_LEASED, Action.JOB_RESENT}
_TABLES: Final = """
CREATE TABLE submitted (job TEXT PRIMARY KEY, digest TEXT, entry INTEGER, time INTEGER, later INTEGER,
                        tenant TEXT) WITHOUT ROWID;
CREATE TABLE told (job TEXT PRIMARY KEY, ended TEXT, entry INTEGER, later INTEGER) WITHOUT ROWID;
CREATE TABLE kept (job TEXT PRIMARY KEY, digest TEXT, issued INTEGER, state TEXT, unproven INTEGER,
                   tenant TEXT) WITHOUT ROWID;
"""
_TELL: Final = """
INSERT INTO told VALUES (?, ?, ?, ?)
ON CONFLICT (job) DO UPDATE SET ended = excluded.ended, entry = excluded.entry, later = excluded.later
"""
_UNLOGGED: Final = """
SELECT kept.job, 'its order', NULL FROM kept LEFT JOIN submitted USING (job)
WHERE submitted.job IS NULL AND kept.digest IS NOT NULL AND kept.issued >= :began
UNION ALL
SELECT kept.job, 'its end (' || kept.state || ')', told.entry FROM kept JOIN told USING (job)
WHERE kept.unproven AND told.ended IS NULL AND NOT told.later
"""
_ANOTHER: Final = """
SELECT kept.job, 'the order ' || kept.digest, submitted.digest, submitted.entry FROM kept JOIN submitted USING (job)
WHERE kept.digest != submitted.digest
UNION ALL
SELECT kept.job, kept.state, told.ended, told.entry FROM kept JOIN told USING (job)
WHERE told.ended IS NOT NULL AND kept.state != told.ended AND NOT told.later
ORDER BY 4
"""
_NAMES: Final = """
SELECT submitted.tenant, kept.tenant, min(submitted.entry) FROM submitted JOIN kept USING (job)
WHERE submitted.tenant IS NOT NULL GROUP BY 1, 2 ORDER BY 3
"""
_GONE: Final = """
SELECT job, entry, time FROM submitted
WHERE NOT later AND NOT EXISTS (SELECT 1 FROM kept WHERE kept.job = submitted.job)
AND NOT EXISTS (SELECT 1 FROM told WHERE told.job = submitted.job AND told.ended = 'succeeded') ORDER BY entry
"""


class JobHistories:
    """Both sides, as they come in. To be closed."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, which SQLite deletes itself
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._began: Millis | None = None
        self._reading = False
        self._erased: set[str] = set()
        self._listed: Mapping[str, str] | None = None

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._began = event.time if self._began is None else min(self._began, event.time)
        later = int(self._reading)
        if event.action is Action.JOB_SUBMITTED:
            submitted = (event.object, event.digest, index, event.time, later, event.tenant)
            self._database.execute("INSERT OR IGNORE INTO submitted VALUES (?, ?, ?, ?, ?, ?)", submitted)
        if event.action is Action.PSEUDONYM_ERASED:
            self._erased.add(event.object)
        end = ENDS.get(event.action) if isinstance(event.action, Action) else None
        if end is not None or event.action in _OPEN:
            self._database.execute(_TELL, (event.object, None if end is None else end.value, index, later))

    def begin(self) -> None:
        """From now on records are read: what is told is later."""
        self._reading = True

    def job(self, record: JobRecord, receipt: Receipt | None) -> Signed[Order] | None:
        """Take in a job on record, with its receipt where there is one that was verified. Gives its order, if that verifies."""
        about, order = f"job:{record.job}", None
        try:
            order = open_signed(record.order, Order)
        except BlindgateError as error:
            self._findings.add("record", f"{about}: its order: {error}")
        if order is not None and (
            (order.document.job, order.document.tenant) != (record.job, record.tenant)
            or order.signer != order.document.client
        ):
            message = f"{about}: its order is of job {order.document.job} of {order.document.tenant}, signed by {order.signer}"
            self._findings.add("record", message)
        self._hold_blobs(record, None if order is None else order.document, receipt)
        digest, issued = (None, None) if order is None else (order.digest, order.document.issued)
        row = (
            about,
            digest,
            issued,
            record.state.value,
            int(record.state.ended and record.receipt is None),
            record.tenant,
        )
        self._database.execute("INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?, ?, ?)", row)
        return order

    def names(self, listed: Mapping[str, str]) -> None:
        """Take in how the gateway translates all pseudonyms."""
        self._listed = listed

    def unlogged(self, erased: int = 0) -> bool:
        """Whether something on record has no event yet, erased ones apart, or is ahead of the last one."""
        ahead = self._database.execute(_ANOTHER).fetchone()
        return ahead is not None or self._count_unlogged() > erased

    def finish(self, *, erased: int, deleted: int, until: Millis) -> int:
        """Hold both sides against each other; `deleted` jobs of up to `until` are not on record any more, as an event tells.

        Gives for how many of the things on record the event must be among the `erased`.
        """
        # 1. and 3.
        for about, kept, told, entry in self._database.execute(_ANOTHER):
            message = f"{about}: on record is {kept}, and entry {entry} tells of {told}"
            self._findings.add("record", message, index=entry)
        hidden = self._count_unlogged()
        if hidden > erased:
            for about, what, entry in self._database.execute(_UNLOGGED, self._since()):
                self._findings.add(
                    "record", f"{about}: {what} is on record, and no event of the log tells of it", index=entry
                )
            hidden = 0
        # 4.
        over = 0
        for about, entry, time in self._database.execute(_GONE):
            over += time <= until
            if time > until or over > deleted:
                message = f"{about}: the job that entry {entry} tells of is not on record"
                self._findings.add("record", message, index=entry)
        # 5.
        named: dict[str, str] = {}
        for pseudonym, name, entry in self._database.execute(_NAMES):
            said = named.setdefault(pseudonym, name) if self._listed is None else self._listed.get(pseudonym)
            if said is None and f"tenant:{pseudonym}" not in self._erased:
                message = f"{pseudonym}: no name is given for it, and no event tells that it was erased; its orders are {name}'s"
                self._findings.add("record", message, index=entry)
            elif said not in {None, name}:
                message = f"{pseudonym}: it is said to be {said}, and its orders are {name}'s"
                self._findings.add("record", message, index=entry)
        return hidden

    def _hold_blobs(self, record: JobRecord, order: Order | None, receipt: Receipt | None) -> None:
        signed = {
            "input": None if order is None else order.input.digest,
            "evaluation key": None if order is None else order.evaluation_key,
            "result": None if receipt is None else receipt.output.digest,
        }
        for blob in record.blobs:
            named = signed[blob.role]
            if named is not None and named != blob.digest:
                message = (
                    f"job:{record.job}: its {blob.role} on record is {blob.digest}, and {named} is what was signed"
                )
                self._findings.add("record", message)

    def close(self) -> None:
        """Delete both sides."""
        self._database.close()

    def _count_unlogged(self) -> int:
        return sum(1 for _ in self._database.execute(_UNLOGGED, self._since()))

    def _since(self) -> dict[str, Millis]:
        return {"began": (self._began or 0) + CLOCK_SKEW}
