"""What the database really did to jobs, seen from inside it, and what it must never do.

Triggers tell of every row of a job that changes; what a transaction that is undone did is forgotten with it. So the audit knows
the one true order of what happened to each job, whoever was or was not told of it, and checks at each commit that

1. a job is leased only from the queue, with the next generation, before its order's deadline;
2. a lease that has run out is never prolonged, and one that has not is ended only by its holder, its tenant, or the deadline;
3. what a node did (released, refused, succeeded) it did under the generation that the job's row had, in its time;
4. a job ends once, from an open state, and as its last attempt did;
5. a tenant has no more jobs leased than it may.

These changes are each job's history; what callers were told of it comes from the wire (`ledger`).
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from histories import Operation
from simulation.faults import Tally

DONE: Final = "done"
"""The answer of a change that the audit saw being made."""
_TRIGGERS: Final = (
    "CREATE TEMP TRIGGER a1 AFTER INSERT ON jobs BEGIN SELECT note('queued', NEW.job, NEW.tenant, NEW.generation, NEW.spent); END",
    """CREATE TEMP TRIGGER a2 AFTER UPDATE OF state, generation, leased_until ON jobs BEGIN
    SELECT note('moved', NEW.job, NEW.tenant, OLD.state, OLD.generation, OLD.leased_until,
                NEW.state, NEW.generation, NEW.leased_until, NEW.deadline); END""",
    """CREATE TEMP TRIGGER a3 AFTER DELETE ON jobs BEGIN
    SELECT note('gone', OLD.job, OLD.tenant, OLD.state, OLD.generation, OLD.leased_until); END""",
    """CREATE TEMP TRIGGER a4 AFTER INSERT ON ended_jobs BEGIN
    SELECT note('ended', NEW.job, NEW.tenant, NEW.state, NEW.generation, NEW.deadline); END""",
    "CREATE TEMP TRIGGER a5 AFTER INSERT ON attempts BEGIN SELECT note('attempt', NEW.job, NEW.generation, NEW.outcome); END",
)
_BY_NODE: Final = frozenset({"released", "refused", "succeeded"})
_CHANGES: Final = {"released": "release", "refused": "refuse", "succeeded": "commit"}
_ENDS: Final = {"succeeded": "succeeded", "failed": "refused", "cancelled": "cancelled", "expired": "expired"}


class Audit:
    """One schedule's audit.

    Attributes:
        changes: what was done to each job.
        until: when each lease runs out, or ran out, by job and generation.
    """

    def __init__(
        self,
        *,
        now: Callable[[], int],
        steps: Callable[[], int],
        broken: Callable[[str], None],
        tally: Tally,
        say: Callable[[str], None] | None,
    ) -> None:
        """`broken` is told of what must never be, `say` of what happens."""
        self._now, self._steps, self._broken, self._tally = now, steps, broken, tally
        self._open: list[tuple[Any, ...]] = []
        self.changes: dict[str, list[Operation]] = defaultdict(list)
        self.until: dict[tuple[str, int], int] = {}
        self._say = say
        self._leased: dict[str, set[str]] = defaultdict(set)
        self.cap = 0

    @staticmethod
    def plant(driver: sqlite3.Connection) -> None:
        """Make the triggers."""
        for trigger in _TRIGGERS:
            driver.execute(trigger)

    def note(self, *what: Any) -> None:
        """A row has changed, in a transaction that may yet be undone."""
        self._open.append(what)

    def undo(self) -> None:
        """The transaction was undone."""
        self._open.clear()

    def commit(self) -> None:
        """The transaction was committed."""
        if not self._open:
            return
        done, self._open = self._open, []
        before: dict[str, tuple[str, int, int]] = {}
        ended: dict[str, str] = {}
        for what, job, *rest in done:
            if what == "queued":
                self._tally["job submitted" if rest[1] == 0 else "job sent again"] += 1
                self._happened(job, "resend" if rest[1] else "submit", 0)
            elif what == "moved":
                before[job] = rest[1], rest[2], rest[3] or 0
                self._move(job, *rest)
            elif what == "gone":
                before[job] = rest[1], rest[2], rest[3] or 0
                self._leased[rest[0]].discard(job)
            elif what == "ended":
                ended[job] = rest[1]
                self._tally[f"job {rest[1]}"] += 1
                if job not in before:
                    self._broken(f"job {job} ended as {rest[1]}, and was not open")
                if rest[1] in {"expired", "cancelled"}:
                    self._happened(job, "expire" if rest[1] == "expired" else "cancel", 0)
                if rest[1] == "expired" and rest[3] > self._now():
                    self._broken(f"job {job} expired {rest[3] - self._now()} ms before its order's deadline")
            else:
                self._attempt(job, *rest, before=before.get(job), end=ended.get(job))

    def remember(self, rows: list[tuple[str, int, int]]) -> None:
        """The power failed: this is how long leases last now, by job and generation."""
        self.until.update({(job, generation): until for job, generation, until in rows})

    def _move(self, job: str, *row: Any) -> None:
        tenant, old, generation, until, new, then, leased_until, deadline = row
        now = self._now()
        if new == "leased" and then != generation:
            if old != "queued" or then != generation + 1:
                self._broken(f"job {job} was {old} in generation {generation}, and leased in generation {then}")
            if deadline <= now:
                self._broken(f"job {job} was leased after its order's deadline")
            self._leased[tenant].add(job)
            if len(self._leased[tenant]) > self.cap:
                self._broken(f"tenant {tenant} has {len(self._leased[tenant])} jobs at nodes, and may have {self.cap}")
            self._tally["job leased"] += 1
            self.until[job, then] = leased_until
            self._happened(job, "lease", then)
        elif new == old == "leased":
            if (until or 0) <= now:
                self._broken(f"job {job}: a lease that had run out was prolonged")
            self._tally["job heartbeat"] += 1
            self.until[job, then] = leased_until
        elif new == "queued":
            self._leased[tenant].discard(job)

    def _attempt(
        self, job: str, generation: int, outcome: str, *, before: tuple[str, int, int] | None, end: str | None
    ) -> None:
        self._tally[f"attempt {outcome}"] += 1
        if before is None:
            self._broken(f"job {job}: an attempt was {outcome}, and nothing was changed")
            return
        state, holder, until = before
        if state != "leased" or holder != generation:
            self._broken(f"job {job}: generation {generation} {outcome}, and it was {state} in generation {holder}")
        if outcome in _BY_NODE and until <= self._now():
            self._broken(f"job {job}: generation {generation} {outcome} after its lease had run out")
        if outcome == "lost" and until > self._now():
            self._broken(f"job {job}: generation {generation} lost its lease {until - self._now()} ms early")
        kind = ("lose" if end is None else "bury") if outcome == "lost" else _CHANGES.get(outcome)
        if kind is not None:
            self._happened(job, kind, generation)
        if end is not None and end != "dead" and _ENDS[end] != outcome:
            self._broken(f"job {job} is {end}, and its last attempt {outcome}")

    def _happened(self, job: str, kind: Any, generation: int) -> None:
        step = float(self._steps())
        self.changes[job].append(Operation(job, kind, DONE, step, step, generation))
        if self._say is not None:
            self._say(f"job {job[:6]} {kind} (generation {generation})")
