"""Every statement that changes a job's state, and no other code does.

Each transition is one UPDATE whose WHERE names everything that makes it right, so that whoever comes second changes no row:

- a node's command names the job, its generation, the token and the node, and requires the state `leased` and a lease that the
  database's clock has not ended (`HELD`);
- the tenant's and the clock's events require one of the states that `blindgate_protocol.jobs` allows them in.

Zero rows mean that the caller is too late, and nothing has happened. The functions work inside the caller's transaction
(`Database.write`), together with the attempt's row and the reason, and wake nobody: that is for after the commit.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, bindparam, exists, insert, literal_column, select, update

from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.tables import attempts, job_documents, job_operators, jobs, keys, nodes
from blindgate_protocol.errors import JobCancelledError, JobDeadError, JobTimeoutError, LeaseLostError
from blindgate_protocol.jobs import JobEvent, JobState, next_state, sources
from blindgate_protocol.keys import KeyState
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef, Millis

MOST_AT_ONCE = 200
"""How many jobs one sweep moves in one transaction."""


Attempted: TypeAlias = tuple[str, int, str]
"""A job, a generation, and the node's name."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a node says that it holds: it is so if `HELD` finds the row."""

    job: str
    generation: int
    token: str
    node: str
    node_name: str

    @property
    def attempt(self) -> Attempted:
        """Which attempt this is."""
        return self.job, self.generation, self.node_name

    def key(self) -> dict[str, Any]:
        """The parameters of `HELD`."""
        return {
            "held_job": self.job,
            "held_generation": self.generation,
            "held_token": self.token,
            "held_node": self.node,
        }


# Literals, not parameters: SQLite uses a partial index only for a condition that it can read.
QUEUED = jobs.c.state == literal_column("'queued'")
LEASED = jobs.c.state == literal_column("'leased'")

HELD = (
    (jobs.c.job == bindparam("held_job"))
    & (jobs.c.generation == bindparam("held_generation"))
    & (jobs.c.token == bindparam("held_token"))
    & (jobs.c.node == bindparam("held_node"))
    & LEASED
    & (jobs.c.leased_until > clock())
)

_SUSPENDED = exists().where(
    keys.c.tenant == jobs.c.tenant, keys.c.digest == jobs.c.evaluation_key, keys.c.state == KeyState.SUSPENDED.value
)
_WAITING = (
    select(jobs.c.job)
    .where(
        QUEUED,
        jobs.c.deadline > clock(),
        jobs.c.family.in_(bindparam("families", expanding=True)),
        exists().where(job_operators.c.job == jobs.c.job, job_operators.c.operator == bindparam("operator")),
        ~_SUSPENDED,
    )
    .order_by(jobs.c.submitted, jobs.c.job)
    .limit(1)
)
_NEXT = prepared(_WAITING)
_NEXT_UNDER_KEYS = prepared(_WAITING.where(jobs.c.evaluation_key.in_(bindparam("keys", expanding=True))))
_LEASE = prepared(
    update(jobs)
    .where(jobs.c.job == bindparam("next_job"), QUEUED)
    .values(
        state=next_state(JobState.QUEUED, JobEvent.LEASE).value,
        generation=jobs.c.generation + 1,
        token=bindparam("new_token"),
        node=bindparam("new_node"),
        leased_until=clock() + bindparam("duration"),
        result_digest=None,
        result_size=None,
    )
    .returning(jobs.c.job, jobs.c.generation, jobs.c.token, jobs.c.manifest)
)
_HEARTBEAT = prepared(update(jobs).where(HELD).values(leased_until=clock() + bindparam("duration")))
_RESULT = prepared(update(jobs).where(HELD).values(result_digest=bindparam("digest"), result_size=bindparam("size")))
_COMMIT = prepared(
    update(jobs)
    .where(HELD, jobs.c.result_digest == bindparam("digest"), jobs.c.result_size == bindparam("size"))
    .values(state=next_state(JobState.LEASED, JobEvent.COMMIT).value, ended=clock())
)
_COMMIT_WITH_RESULT = prepared(
    update(jobs)
    .where(HELD)
    .values(
        state=next_state(JobState.LEASED, JobEvent.COMMIT).value,
        ended=clock(),
        result_digest=bindparam("digest"),
        result_size=bindparam("size"),
    )
)
_REFUSE = prepared(
    update(jobs).where(HELD).values(state=next_state(JobState.LEASED, JobEvent.REFUSE).value, ended=clock())
)
_RELEASE = prepared(update(jobs).where(HELD).values(state=next_state(JobState.LEASED, JobEvent.RELEASE).value))
_BURY = prepared(update(jobs).where(HELD).values(state=next_state(JobState.LEASED, JobEvent.BURY).value, ended=clock()))
_RECEIPT = prepared(
    update(job_documents)
    .where(job_documents.c.job == bindparam("of_job"))
    .values(receipt=bindparam("receipt_envelope"), receipt_digest=bindparam("receipt_name"))
)
_WHY = prepared(
    update(job_documents)
    .where(job_documents.c.job == bindparam("of_job"))
    .values(code=bindparam("because_code"), reason=bindparam("because_reason"))
)
_ATTEMPT = prepared(insert(attempts).values(ended=clock()), "job", "generation", "node", "outcome", "reason")
_LOST = prepared(
    select(jobs.c.job, jobs.c.generation, nodes.c.name)
    .join(nodes, nodes.c.key == jobs.c.node)
    .where(LEASED, jobs.c.leased_until <= clock())
    .limit(MOST_AT_ONCE)
)
_OVERDUE = prepared(
    select(jobs.c.job, jobs.c.generation, jobs.c.state, nodes.c.name)
    .outerjoin(nodes, nodes.c.key == jobs.c.node)
    .where(jobs.c.ended.is_(None), jobs.c.deadline <= clock())
    .limit(MOST_AT_ONCE)
)
_ONE = prepared(
    select(jobs.c.job, jobs.c.generation, jobs.c.state, nodes.c.name)
    .outerjoin(nodes, nodes.c.key == jobs.c.node)
    .where(jobs.c.job == bindparam("of_job"), jobs.c.tenant == bindparam("tenant"))
)
_UNDER_KEY = prepared(
    select(jobs.c.job, jobs.c.generation, jobs.c.state, nodes.c.name)
    .outerjoin(nodes, nodes.c.key == jobs.c.node)
    .where(jobs.c.tenant == bindparam("tenant"), jobs.c.evaluation_key == bindparam("digest"), jobs.c.ended.is_(None))
)


# A node's commands


def next_job(connection: Transaction, *, operator: str, families: Sequence[str], under: Sequence[str]) -> str | None:
    """The job that a node of `operator` should get: the oldest under one of the keys `under`, else the oldest."""
    wanted = {"operator": operator, "families": list(families)}
    if under:
        found = connection.execute(_NEXT_UNDER_KEYS, wanted | {"keys": list(under)}).scalar()
        if found is not None:
            return str(found)
    found = connection.execute(_NEXT, wanted).scalar()
    return None if found is None else str(found)


def lease(connection: Transaction, job: str, *, node: str, duration: Millis) -> Row | None:
    """Lease a queued job to `node`; `None` when somebody else was faster."""
    parameters = {"next_job": job, "new_token": secrets.token_hex(16), "new_node": node, "duration": duration}
    return connection.execute(_LEASE, parameters).first()


def prolong(connection: Transaction, held: Held, *, duration: Millis) -> None:
    """Let the lease go on for `duration` from now. Raises `LeaseLostError`."""
    _one_row(connection.execute(_HEARTBEAT, held.key() | {"duration": duration}).rowcount)


def note_result(connection: Transaction, held: Held, blob: BlobRef) -> None:
    """Note which blob the lease stored. Raises `LeaseLostError`."""
    _one_row(connection.execute(_RESULT, held.key() | {"digest": blob.digest, "size": blob.size}).rowcount)


def commit(connection: Transaction, held: Held, receipt: Signed[Receipt], *, brought: bool) -> bool:
    """The job succeeded with the blob that this lease stored, or that it `brought` with the receipt.

    False when the lease is lost, or stored another blob.
    """
    output = receipt.document.output
    statement = _COMMIT_WITH_RESULT if brought else _COMMIT
    if connection.execute(statement, held.key() | {"digest": output.digest, "size": output.size}).rowcount == 0:
        return False
    envelope = receipt.envelope.model_dump_json()
    connection.execute(_RECEIPT, {"of_job": held.job, "receipt_envelope": envelope, "receipt_name": receipt.digest})
    _end_attempt(connection, held.attempt, "succeeded", "")
    return True


def refuse(connection: Transaction, held: Held, *, code: str, reason: str) -> None:
    """The job failed for good. Raises `LeaseLostError`."""
    _one_row(connection.execute(_REFUSE, held.key()).rowcount)
    _explain(connection, held.job, code, reason)
    _end_attempt(connection, held.attempt, "refused", f"{code}: {reason}")


def release(connection: Transaction, held: Held, *, code: str, reason: str, most: int) -> None:
    """The node gives the job back: queued again, or dead after `most` attempts. Raises `LeaseLostError`."""
    last = held.generation >= most
    _one_row(connection.execute(_BURY if last else _RELEASE, held.key()).rowcount)
    if last:
        _explain(connection, held.job, JobDeadError.code, f"attempt {held.generation} of {most}: {code}: {reason}")
    _end_attempt(connection, held.attempt, "released", f"{code}: {reason}")


# The clock's and the tenant's events


def lose_leases(connection: Transaction, *, most: int) -> list[str]:
    """End every lease whose time is over; its job is queued again, or dead after `most` attempts. Gives the jobs."""
    rows = connection.execute(_LOST).all()
    for row in rows:
        last = row.generation >= most
        event = JobEvent.BURY if last else JobEvent.LOSE
        if _move(connection, row.job, row.generation, event, jobs.c.leased_until <= clock()):
            reason = "no heartbeat: the lease ran out"
            if last:
                _explain(connection, row.job, JobDeadError.code, f"attempt {row.generation} of {most}: {reason}")
            _end_attempt(connection, (row.job, row.generation, row.name), "lost", reason)
    return [row.job for row in rows]


def expire_jobs(connection: Transaction) -> list[str]:
    """End every job whose deadline has passed. Gives the jobs."""
    rows = connection.execute(_OVERDUE).all()
    for row in rows:
        _end(connection, row, JobEvent.EXPIRE, JobTimeoutError.code, "the order's deadline passed")
    return [row.job for row in rows]


def cancel_job(connection: Transaction, job: str, *, tenant: str) -> JobState | None:
    """Cancel a tenant's job, if it can still be; gives the state that it was in, `None` when there is no such job."""
    row = connection.execute(_ONE, {"of_job": job, "tenant": tenant}).first()
    if row is None:
        return None
    if row.state in {state.value for state in sources(JobEvent.CANCEL)}:
        _end(connection, row, JobEvent.CANCEL, JobCancelledError.code, "the tenant cancelled it")
    return JobState(row.state)


def cancel_jobs_under(connection: Transaction, tenant: str, key: str) -> list[str]:
    """Cancel what still needs a key that is no more. Gives the jobs."""
    rows = connection.execute(_UNDER_KEY, {"tenant": tenant, "digest": key}).all()
    for row in rows:
        _end(connection, row, JobEvent.CANCEL, JobCancelledError.code, "its evaluation key was destroyed")
    return [row.job for row in rows]


def _end(connection: Transaction, row: Row, event: JobEvent, code: str, reason: str) -> None:
    if _move(connection, row.job, row.generation, event):
        _explain(connection, row.job, code, reason)
        if row.state == JobState.LEASED.value:
            outcome = next_state(JobState.LEASED, event).value
            _end_attempt(connection, (row.job, row.generation, row.name), outcome, reason)


def _move(
    connection: Transaction, job: str, generation: int, event: JobEvent, *conditions: ColumnElement[bool]
) -> bool:
    came_from = sources(event)
    to = next_state(next(iter(came_from)), event)
    moved = (
        update(jobs)
        .where(
            jobs.c.job == job,
            jobs.c.generation == generation,
            jobs.c.state.in_(sorted(state.value for state in came_from)),
            *conditions,
        )
        .values(state=to.value, ended=clock() if to.ended else None)
    )
    return connection.execute(moved).rowcount == 1


def _explain(connection: Transaction, job: str, code: str, reason: str) -> None:
    connection.execute(_WHY, {"of_job": job, "because_code": code, "because_reason": reason[:2000]})


def _end_attempt(connection: Transaction, attempt: Attempted, outcome: str, reason: str) -> None:
    job, generation, node = attempt
    attempted = {"job": job, "generation": generation, "node": node, "outcome": outcome, "reason": reason[:2000]}
    connection.execute(_ATTEMPT, attempted)


def _one_row(rows: int) -> None:
    if rows != 1:
        message = "this lease is over: the job was finished, cancelled, or leased to somebody else"
        raise LeaseLostError(message)
