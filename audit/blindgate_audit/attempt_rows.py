"""Whether the attempts in the gateway's table are the leases that the log tells of, and ended as it tells.

1. each attempt has its lease, and each lease that ended has its attempt, with the node's name;
2. how an attempt ended, and when, is what the event of its end states: the gateway's own words as they are, a node's by the event's
   commitment to them, which opens with the salt in the row;
3. a gateway of before told only of a job's end: then the last attempt of a job that succeeded, or was refused, says so, and no
   other does; its time is the event's, up to what two clocks of one gateway may be apart.
"""

from collections.abc import Mapping
from typing import Final

from blindgate_audit.columns import TableRow, Value, number
from blindgate_audit.findings import Findings
from blindgate_audit.job_lives import JobLives, Told
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.events import Action, Event, commitment_to
from blindgate_protocol.jobs import JobState
from blindgate_protocol.receipts import CLOCK_SKEW

_OUTCOMES: Final = {JobState.SUCCEEDED.value: "succeeded", JobState.FAILED.value: "refused"}
"""What the last attempt says of a job that ended so, and no other attempt does."""


class AttemptRows:
    """Attempts against what was told of `lives`."""

    def __init__(self, findings: Findings, lives: JobLives) -> None:
        self._findings, self._lives = findings, lives
        self._names: dict[str, set[str]] = {}

    def tell(self, event: Event) -> None:
        """Take in an event of the log."""
        if event.action is Action.NODE_ENROLLED:
            self._names.setdefault(event.object.removeprefix("node:"), set()).add(event.details.get("name", ""))

    def unlogged(self) -> bool:
        """Whether an attempt has no lease in the log yet."""
        return next(self._lives.unleased(), None) is not None

    def finish(self, *, erased: int) -> None:
        """Hold both sides against each other; any event that is missing may be among the `erased`."""
        for job, generation in self._lives.unleased() if not erased else ():
            self._findings.add(
                "row", f"job:{job}: it has an attempt {generation}, and no event of the log tells of that lease"
            )
        for job, generation in self._lives.leases():
            lease, last = self._lives.told(job, "lease", generation), self._lives.told(job, "last")
            count = number(generation)
            if lease is not None and last is not None and count is not None:
                self._hold(job, count, lease, last, erased=erased)

    def _hold(self, job: str, generation: int, lease: Told, last: Told, *, erased: int) -> None:
        attempt, ended = self._lives.find("attempts", job, generation), self._lives.told(job, "attempt", generation)
        goes_on = last["state"] == JobState.LEASED.value and last["entry"] == lease["entry"]
        if attempt is None:
            # A gateway of before did not tell of a lease that was lost: another lease, or an end, which came after it, shows that.
            if ended is not None or not (goes_on or last["state"] == JobState.QUEUED.value):
                message = (
                    f"job:{job}: the lease {generation} that entry {lease['entry']} tells of has no row of attempts"
                )
                self._findings.add("row", message, index=lease["entry"])
            return
        self._hold_node(attempt, lease)
        if ended is not None:
            self._hold_end(attempt, ended)
        elif not goes_on:
            self._hold_loosely(attempt, last)
        elif not erased and "token" in lease:
            message = f"{attempt.about}: it has an attempt {generation}, and no event tells that this lease ended"
            self._findings.add("row", message, index=lease["entry"])

    def _hold_node(self, attempt: TableRow, lease: Told) -> None:
        names = self._names.get(lease.get("node", ""), set())
        if names and attempt.get("node") not in names:
            said = {"node": ", ".join(sorted(names))}
            attempt.hold(self._findings, said, f"the node of entry {lease['entry']}", index=lease["entry"])

    def _hold_end(self, attempt: TableRow, ended: Told) -> None:
        entry, source = ended["entry"], f"entry {ended['entry']}"
        said: dict[str, Value] = {"outcome": ended.get("outcome"), "ended": number(ended.get("ended"))}
        words = ended.get("words")
        if words is None:
            said |= {"reason": ended["reason"] or "", "salt": None}
        elif not _opens(attempt.columns, words):
            said_so = f"in its row of attempts, reason is {attempt.get('reason')!r}"
            message = f"{attempt.about}: {said_so}; {source} commits to other words"
            self._findings.add("row", message, index=entry)
        attempt.hold(self._findings, said, source, index=entry)

    def _hold_loosely(self, attempt: TableRow, end: Told) -> None:
        is_last = str(attempt.get("generation")) == end.get("generation")
        outcome = _OUTCOMES.get(end["state"]) if is_last else None
        if outcome is not None:
            said = {"outcome": outcome, "reason": ""} if outcome == "succeeded" else {"outcome": outcome}
            attempt.hold(self._findings, said, "how the job ended", index=end["entry"])
            if not is_about(attempt.get("ended"), end["time"]):
                attempt.hold(self._findings, {"ended": end["time"]}, "the job's end", index=end["entry"])
        elif attempt.get("outcome") in _OUTCOMES.values():
            said_so = f"in its row of attempts, outcome is {attempt.get('outcome')!r}"
            message = f"{attempt.about}: {said_so}; the job did not end so with this lease"
            self._findings.add("row", message, index=end["entry"])


def is_about(time: Value, told: Value) -> bool:
    """Whether two clocks of one gateway may have said so of one moment."""
    return isinstance(time, int) and isinstance(told, int) and abs(time - told) <= CLOCK_SKEW


def _opens(row: Mapping[str, Value], commitment: str) -> bool:
    words, salt = row.get("reason"), row.get("salt")
    if not isinstance(words, str) or not isinstance(salt, str):
        return False
    try:
        return commitment_to(words, salt) == commitment
    except MalformedError:
        return False
