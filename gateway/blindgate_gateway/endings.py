"""What is written down when a lease, or a job with it, ends: its rows, and an event that states what is in them.

The event states each column that no signed document has: the database's time, the lease, how the attempt went and why. Whoever
edits the rows later contradicts it, and `audit verify` says so.

A node's own words are prose of somebody who is not trusted, and the log is no place for that. So the event commits to them
(`blindgate_protocol.events.commitment_to`), under a salt that lies in the attempt's row and is deleted with it.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, insert, update

from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.log.objects import job_object
from blindgate_gateway.log.telling import Actor, tell
from blindgate_gateway.tables import KEPT, attempts, blobs, ended_jobs, job_documents
from blindgate_protocol.errors import JobDeadError
from blindgate_protocol.events import Action, commitment_to
from blindgate_protocol.jobs import JobEvent, JobState, next_state
from blindgate_protocol.values import Millis

RELEASED: Final = "released"
LOST: Final = "lost"
"""How an attempt went after which its job may wait again: given back, or without a sign of life."""

_MOST_TEXT: Final = 2000
_ENDS: Final = {
    JobState.SUCCEEDED: Action.JOB_SUCCEEDED,
    JobState.FAILED: Action.JOB_FAILED,
    JobState.DEAD: Action.JOB_DEAD,
    JobState.CANCELLED: Action.JOB_CANCELLED,
    JobState.EXPIRED: Action.JOB_EXPIRED,
}
_OUTCOMES: Final = {JobState.SUCCEEDED: "succeeded", JobState.FAILED: "refused"}
"""What the last attempt is called, where not as the job's state."""
KEPT_ROW: Final = tuple(name for name in KEPT if name != "state")
"""What of a job's row outlives its end, but for its state."""
_ENDED = prepared(
    insert(ended_jobs).values(ended=clock()).returning(ended_jobs.c.job, ended_jobs.c.submitted, ended_jobs.c.ended),
    "state",
    *KEPT_ROW,
)
_USED = prepared(
    update(blobs)
    .where(blobs.c.tenant == bindparam("of_tenant"), blobs.c.digest.in_(bindparam("digests", expanding=True)))
    .values(stored=clock())
)
_WHY = prepared(
    update(job_documents)
    .where(job_documents.c.job == bindparam("of_job"))
    .values(code=bindparam("because_code"), reason=bindparam("because_reason"))
)
_ATTEMPT = prepared(insert(attempts), "job", "generation", "node", "outcome", "reason", "salt", "ended")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A lease that ends: `node` is its key, `name` the node's name."""

    job: str
    generation: int
    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Said:
    """Why an attempt ended.

    Attributes:
        words: as the attempt's row has them.
        told: as the event has it.
        salt: of the event's commitment to the words, where they are a node's.
    """

    words: str
    told: str
    salt: str | None = None

    def details(self) -> dict[str, str]:
        """What the event says of the words."""
        return {} if self.salt is None else {"words": commitment_to(self.words, self.salt)}


def node_said(code: str, reason: str) -> Said:
    """A node's words: its `reason`, behind a `code`."""
    return Said(_cut(f"{code}: {reason}"), code, secrets.token_hex(16))


def gateway_said(reason: str) -> Said:
    """The gateway's own words."""
    return Said(reason, reason)


def end_job(  # noqa: PLR0913  (a job's end, and why)
    connection: Transaction,
    row: Row,
    event: JobEvent,
    *,
    by: Actor,
    attempt: Attempt | None,
    digest: str | None = None,
    said: Said | None = None,
    because: tuple[str, str] | None = None,
    outcome: str | None = None,
    details: dict[str, str] | None = None,
) -> Row:
    """Write down a job that was taken out of `jobs`, with its last `attempt` where it was leased.

    Its blobs count as stored now: they are kept from its end on. `because` is a code and words for whoever asks for the result.
    Gives its id and when it was submitted and ended.
    """
    state = next_state(JobState.LEASED, event)
    kept = {**row._asdict(), "state": state.value}
    if state is not JobState.SUCCEEDED:
        kept |= {"result_digest": None, "result_size": None}  # what a lease stored is no result
    ended = connection.execute(_ENDED, kept).one()
    if because is not None:
        explain(connection, row.job, *because)
    if attempt is not None:
        went = outcome or _OUTCOMES.get(state, state.value)
        _end_attempt(connection, attempt, went, said, ended.ended)
    stated = {"generation": str(row.generation), "ended": str(ended.ended), **(details or {})}
    if attempt is not None:
        stated["node"] = attempt.node
        stated |= {} if said is None else said.details()
    if state is JobState.SUCCEEDED:
        # Since when the gateway has had the order: a bundle holds this event, and not the one of the submission.
        stated["submitted"] = str(row.submitted)
    tell(
        connection,
        _ENDS[state],
        job_object(row.job),
        by=by,
        tenant=row.tenant,
        digest=digest,
        outcome="success" if state is JobState.SUCCEEDED else "failure",
        reason=None if said is None else said.told,
        before=(JobState.QUEUED if attempt is None else JobState.LEASED).value,
        after=state.value,
        details=stated,
    )
    used = [digest for digest in (kept["input_digest"], kept["result_digest"]) if digest is not None]
    connection.execute(_USED, {"of_tenant": row.tenant, "digests": used})
    return ended


def bury(  # noqa: PLR0913  (the last attempt, and why it ended)
    connection: Transaction, row: Row, attempt: Attempt, said: Said, *, by: Actor, outcome: str, count: tuple[int, int]
) -> None:
    """Write down a job that was given up after so many attempts of so many: `count`."""
    number, most = count
    end_job(
        connection,
        row,
        JobEvent.BURY,
        by=by,
        attempt=attempt,
        said=said,
        because=(JobDeadError.code, _cut(f"attempt {number} of {most}: {said.words}")),
        outcome=outcome,
        details={"outcome": outcome, "attempt": str(number), "most": str(most)},
    )


def return_job(  # noqa: PLR0913  (an attempt, and why it ended)
    connection: Transaction, row: Row, attempt: Attempt, said: Said, *, by: Actor, outcome: str
) -> None:
    """Write down an attempt after which its job waits again; `row` has the job's tenant and when that was."""
    _end_attempt(connection, attempt, outcome, said, row.ended)
    stated = {"generation": str(attempt.generation), "node": attempt.node, "ended": str(row.ended), "outcome": outcome}
    tell(
        connection,
        Action.JOB_RETURNED,
        job_object(attempt.job),
        by=by,
        tenant=row.tenant,
        outcome="failure",
        reason=said.told,
        before=JobState.LEASED.value,
        after=JobState.QUEUED.value,
        details=stated | said.details(),
    )


def explain(connection: Transaction, job: str, code: str | None, reason: str | None) -> None:
    """Write down for whoever asks for a job's result why there is none."""
    connection.execute(_WHY, {"of_job": job, "because_code": code, "because_reason": reason})


def _end_attempt(connection: Transaction, attempt: Attempt, outcome: str, said: Said | None, ended: Millis) -> None:
    row = {
        "job": attempt.job,
        "generation": attempt.generation,
        "node": attempt.name,
        "outcome": outcome,
        "reason": "" if said is None else said.words,
        "salt": None if said is None else said.salt,
        "ended": ended,
    }
    connection.execute(_ATTEMPT, row)


def _cut(text: str) -> str:
    return text.replace("\0", "")[:_MOST_TEXT]  # PostgreSQL's texts hold no zero
