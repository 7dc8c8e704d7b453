"""Whether the log says one thing of when an order came: at once, and again with its result.

The event of a job's success states since when the gateway had the order (`submitted`), and whoever is shown a bundle dates the
order by that (`revocations`): a thief's order would count as made before the revocation if the gateway stated an earlier time. But
it told of the submission when it came, in an event of its own, which it cannot alter afterwards. So:

1. the time that a success states is the one that the job's `job.submitted` stated, both by the gateway's database. One of a gateway
   of before states none: then it is the event's own, up to what two clocks of one gateway may be apart, the database's and the
   process's;
2. where a success states a time and no event tells of the submission, that was erased, as others tell, or the log began later.

A success that states no time is of before gateways did. Nothing else of the two is compared.

Both sides are laid into a database that SQLite keeps in a file without a name, as in `records`.
"""

import re
import sqlite3
from typing import Final

from blindgate_audit.findings import Findings
from blindgate_protocol.events import Action, Event
from blindgate_protocol.receipts import CLOCK_SKEW

_TIME: Final = re.compile(r"[0-9]{1,15}")
_TABLES: Final = """
CREATE TABLE submitted (job TEXT PRIMARY KEY, entry INTEGER, time INTEGER, apart INTEGER) WITHOUT ROWID;
CREATE TABLE stated (entry INTEGER PRIMARY KEY, job TEXT, time INTEGER);
"""
_APART: Final = """
SELECT stated.entry, stated.job, stated.time, submitted.entry, submitted.time
FROM stated JOIN submitted USING (job) WHERE abs(stated.time - submitted.time) > submitted.apart ORDER BY stated.entry
"""
_ALONE: Final = """
SELECT entry, job, time FROM stated
WHERE time >= ? AND NOT EXISTS (SELECT 1 FROM submitted WHERE submitted.job = stated.job) ORDER BY entry
"""


class Submissions:
    """Both sides, as they come in. To be closed.

    Attributes:
        stated: how many successes state a time.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._database = sqlite3.connect("", isolation_level=None)  # a file without a name, which SQLite deletes itself
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._began: int | None = None
        self.stated = 0

    def tell(self, index: int, event: Event) -> None:
        """Take in an event of the log."""
        self._began = event.time if self._began is None else min(self._began, event.time)
        stated = event.details.get("submitted")
        if event.action is Action.JOB_SUBMITTED:
            known = stated is not None and _TIME.fullmatch(stated) is not None
            when = (int(stated or ""), 0) if known else (event.time, CLOCK_SKEW)
            self._database.execute("INSERT OR IGNORE INTO submitted VALUES (?, ?, ?, ?)", (event.object, index, *when))
            return
        if event.action is not Action.JOB_SUCCEEDED or stated is None:
            return
        if not _TIME.fullmatch(stated):
            message = f"{event.object}: entry {index} states no time since when the gateway had the order"
            self._findings.add("submission", message, index=index)
            return
        self.stated += 1
        self._database.execute("INSERT INTO stated VALUES (?, ?, ?)", (index, event.object, int(stated)))

    def finish(self, *, erased: int = 0) -> None:
        """Hold both sides against each other, once all was taken in.

        `erased` events are gone, as others tell: as many of the submissions may be among them, and nobody can say which.
        """
        # 1.
        for entry, job, time, told, then in self._database.execute(_APART):
            message = (
                f"{job}: entry {entry} states that its order came at {time} ms since 1970, and entry {told}, which tells of that, "
                f"has {then}: {abs(time - then) / 1000:g} s apart"
            )
            self._findings.add("submission", message, index=entry)
        # 2.
        begin = (self._began or 0) + CLOCK_SKEW
        alone = sum(1 for _ in self._database.execute(_ALONE, (begin,)))
        if alone <= erased:
            return
        for entry, job, time in self._database.execute(_ALONE, (begin,)):
            message = (
                f"{job}: entry {entry} states that its order came at {time} ms since 1970, and no event tells of that"
            )
            self._findings.add("submission", message, index=entry)

    def close(self) -> None:
        """Delete both sides."""
        self._database.close()
