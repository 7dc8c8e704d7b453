"""Every statement that changes a job's state, and no other code does.

Each transition is one statement whose WHERE names everything that makes it right, so that whoever comes second changes no row:

- a node's command names the job, its generation, the token and the node, and requires the state `leased` and a lease that the
  database's clock has not ended (`HELD`);
- the tenant's and the clock's events require one of the states that `blindgate_protocol.jobs` allows them in.

Zero rows mean that the caller is too late, and nothing has happened. An end is a DELETE from `jobs`; the row goes to `ended_jobs`.
The functions work inside the caller's transaction (`Database.write`), together with what is written of an end (`endings`), and wake
nobody: that is for after the commit.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, literal_column, select, update

from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.endings import (
    KEPT_ROW,
    LOST,
    RELEASED,
    Attempt,
    bury,
    end_job,
    explain,
    gateway_said,
    node_said,
    return_job,
)
from blindgate_gateway.log.objects import job_object
from blindgate_gateway.log.telling import COMMAND_LINE, GATEWAY, Actor, node_actor, tell, tenant_actor
from blindgate_gateway.queues import LEASED
from blindgate_gateway.tables import ended_jobs, job_documents, jobs, nodes
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import JobCancelledError, JobTimeoutError, LeaseLostError
from blindgate_protocol.events import Action
from blindgate_protocol.jobs import JobEvent, JobState, next_state
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import BlobRef, Millis

MOST_AT_ONCE = 200
"""How many jobs one sweep moves in one transaction."""

_NEAR = 8
"""How many that lease at once may be beside a claim that trusts an old count."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a node says that it holds: it is so if `HELD` finds the row."""

    job: str
    generation: int
    token: str
    node: str
    node_name: str

    @property
    def attempt(self) -> Attempt:
        """Which attempt this is."""
        return Attempt(self.job, self.generation, self.node, self.node_name)

    def key(self) -> dict[str, Any]:
        """The parameters of `HELD`."""
        return {
            "held_job": self.job,
            "held_generation": self.generation,
            "held_token": self.token,
            "held_node": self.node,
        }


HELD = (
    (jobs.c.job == bindparam("held_job"))
    & (jobs.c.generation == bindparam("held_generation"))
    & (jobs.c.token == bindparam("held_token"))
    & (jobs.c.node == bindparam("held_node"))
    & LEASED
    & (jobs.c.leased_until > clock())
)
_THIS_LEASE = (jobs.c.job == bindparam("of_job")) & (jobs.c.generation == bindparam("of_generation")) & LEASED

# Literals, not parameters: a partial index is used only for a condition that the planner can read.
_waiting = jobs.alias("waiting")
_FIRST = (
    select(_waiting.c.job)
    .where(
        _waiting.c.queue == bindparam("from_queue"),
        _waiting.c.state == literal_column("'queued'"),
        _waiting.c.held == literal_column("0"),
        _waiting.c.deadline > clock(),
    )
    .order_by(_waiting.c.rank, _waiting.c.submitted, _waiting.c.job)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_others = jobs.alias("others")
_ROOM = (
    select(func.count())
    .select_from(_others)
    .where(
        _others.c.tenant == bindparam("tenant"),
        _others.c.state == literal_column("'leased'"),
        _others.c.leased_until > 0,  # true of all of them: it lets SQLite see which index fits
    )
    .scalar_subquery()
) < bindparam("most")


def _claiming(first: Any) -> Any:
    return prepared(
        update(jobs)
        .where(jobs.c.job == first.scalar_subquery(), _ROOM)
        .values(
            state=next_state(JobState.QUEUED, JobEvent.LEASE).value,
            generation=jobs.c.generation + 1,
            token=bindparam("new_token"),
            node=bindparam("new_node"),
            leased_until=clock() + bindparam("duration"),
            result_digest=None,
            result_size=None,
        )
        .returning(jobs.c.job, jobs.c.tenant, jobs.c.generation, jobs.c.token, jobs.c.manifest)
    )


_CLAIM = _claiming(_FIRST)
_CLAIM_UNDER_KEYS = _claiming(
    _FIRST.where(_waiting.c.evaluation_key.in_(bindparam("keys", expanding=True)), _waiting.c.rank == bindparam("rank"))
)
_HEARTBEAT = prepared(update(jobs).where(HELD).values(leased_until=clock() + bindparam("duration")))
_RESULT = prepared(update(jobs).where(HELD).values(result_digest=bindparam("digest"), result_size=bindparam("size")))
_BACK = {"state": next_state(JobState.LEASED, JobEvent.RELEASE).value}
_SPENT = prepared(select(jobs.c.spent).where(HELD))
_RELEASE = prepared(update(jobs).where(HELD).values(**_BACK).returning(jobs.c.tenant, clock().label("ended")))
_SHORTEN = prepared(
    update(jobs)
    .where(LEASED, jobs.c.leased_until > clock() + bindparam("longest"))
    .values(leased_until=clock() + bindparam("duration"))
)
_LOSE = prepared(
    update(jobs)
    .where(_THIS_LEASE, jobs.c.leased_until <= clock())
    .values(**_BACK)
    .returning(jobs.c.tenant, jobs.c.node, clock().label("ended"))
)


def _ending(*conditions: ColumnElement[bool]) -> Any:
    return prepared(delete(jobs).where(*conditions).returning(*(jobs.c[name] for name in KEPT_ROW)))


_END_HELD = _ending(HELD)
_END_WITH_RESULT = _ending(HELD, jobs.c.result_digest == bindparam("digest"), jobs.c.result_size == bindparam("size"))
_END_LOST = _ending(_THIS_LEASE, jobs.c.leased_until <= clock())
_END_OPEN = _ending(
    jobs.c.job == bindparam("of_job"),
    jobs.c.generation == bindparam("of_generation"),
    jobs.c.state == bindparam("of_state"),
)
_UNBURY = prepared(
    delete(ended_jobs)
    .where(ended_jobs.c.job == bindparam("of_job"), ended_jobs.c.state == JobState.DEAD.value)
    .returning(*(ended_jobs.c[name] for name in KEPT_ROW))
)
_AGAIN = prepared(insert(jobs), "state", "queue", "spent", *KEPT_ROW)
_RECEIPT = prepared(
    update(job_documents)
    .where(job_documents.c.job == bindparam("of_job"))
    .values(receipt=bindparam("receipt_envelope"), receipt_digest=bindparam("receipt_name"))
)
_OPEN = select(
    jobs.c.job, jobs.c.tenant, jobs.c.generation, jobs.c.spent, jobs.c.state, jobs.c.node, nodes.c.name
).outerjoin(nodes, nodes.c.key == jobs.c.node)
_LOST = prepared(
    _OPEN.where(LEASED, jobs.c.leased_until <= clock()).limit(MOST_AT_ONCE).with_for_update(skip_locked=True, of=jobs)
)
_OVERDUE = prepared(
    _OPEN.where(jobs.c.deadline <= clock()).limit(MOST_AT_ONCE).with_for_update(skip_locked=True, of=jobs)
)
_ONE = prepared(
    _OPEN.where(jobs.c.job == bindparam("of_job"), jobs.c.tenant == bindparam("tenant")).with_for_update(of=jobs)
)
_UNDER = (jobs.c.tenant == bindparam("of_tenant")) & (jobs.c.evaluation_key == bindparam("of_key"))
_UNDER_KEY = prepared(_OPEN.where(_UNDER).order_by(jobs.c.job).with_for_update(of=jobs))
_HOLD = prepared(update(jobs).where(_UNDER).values(held=bindparam("held_now")))


# A node's commands


def claim(connection: Transaction, turn: Row, *, node: str, under: Sequence[str], duration: Millis) -> Row:
    """Lease the next job of the queue whose `turn` it is to `node`; `None` when others were faster.

    A job under one of the keys `under` goes before others that are as urgent.
    """
    if turn.leased + _NEAR >= turn.most / 2:
        # The count of leases is right only if nobody leases another of the tenant's jobs meanwhile.
        connection.alone("in flight", turn.tenant)
    parameters = {
        "from_queue": turn.id,
        "tenant": turn.tenant,
        "most": turn.most,
        "new_token": secrets.token_hex(16),
        "new_node": node,
        "duration": duration,
    }
    if under:
        preferred = {**parameters, "keys": list(under), "rank": turn.rank}
        found = connection.execute(_CLAIM_UNDER_KEYS, preferred).first()
        if found is not None:
            return _tell_lease(connection, found, node)
    found = connection.execute(_CLAIM, parameters).first()
    return found if found is None else _tell_lease(connection, found, node)


def prolong(connection: Transaction, held: Held, *, duration: Millis) -> None:
    """Let the lease go on for `duration` from now. Raises `LeaseLostError`."""
    _one_row(connection.execute(_HEARTBEAT, held.key() | {"duration": duration}).rowcount)


def note_result(connection: Transaction, held: Held, blob: BlobRef) -> None:
    """Note which blob the lease stored. Raises `LeaseLostError`."""
    _one_row(connection.execute(_RESULT, held.key() | {"digest": blob.digest, "size": blob.size}).rowcount)


def commit(connection: Transaction, held: Held, receipt: Signed[Receipt], *, brought: bool) -> Row:
    """The job succeeded with the blob that this lease stored, or that it `brought` with the receipt.

    Gives its id and when it was submitted and ended; `None` when the lease is lost, or stored another blob.
    """
    output = receipt.document.output
    result = {"digest": output.digest, "size": output.size}
    row = connection.execute(_END_HELD if brought else _END_WITH_RESULT, held.key() | result).first()
    if row is None:
        return None
    envelope = receipt.envelope.model_dump_json()
    connection.execute(_RECEIPT, {"of_job": held.job, "receipt_envelope": envelope, "receipt_name": receipt.digest})
    return end_job(
        connection,
        row._replace(result_digest=output.digest, result_size=output.size),
        JobEvent.COMMIT,
        by=node_actor(held.node),
        attempt=held.attempt,
        digest=receipt.digest,
    )


def refuse(connection: Transaction, held: Held, *, code: str, reason: str) -> None:
    """The job failed for good. Raises `LeaseLostError`."""
    said = node_said(code, reason)
    end_job(
        connection,
        _gone(connection, held),
        JobEvent.REFUSE,
        by=node_actor(held.node),
        attempt=held.attempt,
        said=said,
        because=(code, said.words.removeprefix(f"{code}: ")),
    )


def release(connection: Transaction, held: Held, *, code: str, reason: str, most: int) -> None:
    """The node gives the job back: queued again, or dead after `most` attempts. Raises `LeaseLostError`."""
    attempt = held.generation - (connection.execute(_SPENT, held.key()).scalar() or 0)
    by, said = node_actor(held.node), node_said(code, reason)
    if attempt >= most:
        bury(connection, _gone(connection, held), held.attempt, said, by=by, outcome=RELEASED, count=(attempt, most))
        return
    row = connection.execute(_RELEASE, held.key()).first()
    _one_row(int(row is not None))
    return_job(connection, row, held.attempt, said, by=by, outcome=RELEASED)


# The clock's and the tenant's events


def lose_leases(connection: Transaction, *, most: int) -> list[str]:
    """End every lease whose time is over; its job is queued again, or dead after `most` attempts. Gives the jobs."""
    rows = connection.execute(_LOST).all()
    said = gateway_said("no heartbeat: the lease ran out")
    for row in rows:
        attempt, count = Attempt(row.job, row.generation, row.node, row.name), row.generation - row.spent
        this = {"of_job": row.job, "of_generation": row.generation}
        if count < most:
            back = connection.execute(_LOSE, this).first()
            if back is not None:
                return_job(connection, back, attempt, said, by=GATEWAY, outcome=LOST)
        else:
            gone = connection.execute(_END_LOST, this).first()
            if gone is not None:
                bury(connection, gone, attempt, said, by=GATEWAY, outcome=LOST, count=(count, most))
    return [row.job for row in rows]


def shorten_leases(connection: Transaction, *, longest: Millis, duration: Millis) -> int:
    """Let leases that go on for more than `longest` go on for `duration`. Gives how many.

    They were given, or prolonged, by a clock that has been set back since: what their nodes held would be held for as long as that.
    """
    return connection.execute(_SHORTEN, {"longest": longest, "duration": duration}).rowcount


def expire_jobs(connection: Transaction) -> list[str]:
    """End every job whose deadline has passed. Gives the jobs."""
    rows = connection.execute(_OVERDUE).all()
    for row in rows:
        _end(connection, row, JobEvent.EXPIRE, JobTimeoutError.code, "the order's deadline passed", by=GATEWAY)
    return [row.job for row in rows]


def cancel_job(connection: Transaction, job: str, *, tenant: str) -> bool:
    """Cancel a tenant's job. False when it has ended, or there is none."""
    row = connection.execute(_ONE, {"of_job": job, "tenant": tenant}).first()
    if row is None:
        return False
    by = tenant_actor(connection, tenant)
    _end(connection, row, JobEvent.CANCEL, JobCancelledError.code, "the tenant cancelled it", by=by)
    return True


def cancel_jobs_under(connection: Transaction, tenant: str, key: str, *, why: str) -> list[str]:
    """Cancel what still needs a key that no node is sent any more. Gives the jobs."""
    rows = connection.execute(_UNDER_KEY, {"of_tenant": tenant, "of_key": key}).all()
    by = tenant_actor(connection, tenant)
    for row in rows:
        _end(connection, row, JobEvent.CANCEL, JobCancelledError.code, why, by=by)
    return [row.job for row in rows]


def hold_jobs_under(connection: Transaction, tenant: str, key: str, *, held: bool) -> None:
    """Let nobody lease what needs a key, or let them again."""
    connection.execute(_HOLD, {"of_tenant": tenant, "of_key": key, "held_now": int(held)})


def resend(connection: Transaction, job: str, *, queue: str) -> bool:
    """A dead job waits again, in `queue`, with as many attempts as a new one. False when it is not dead."""
    row = connection.execute(_UNBURY, {"of_job": job}).first()
    if row is None:
        return False
    state = next_state(JobState.DEAD, JobEvent.RESEND).value
    connection.execute(_AGAIN, {**row._asdict(), "state": state, "queue": queue, "spent": row.generation})
    explain(connection, job, None, None)
    tell(
        connection,
        Action.JOB_RESENT,
        job_object(job),
        by=COMMAND_LINE,
        tenant=row.tenant,
        before=JobState.DEAD.value,
        after=state,
        details={"generation": str(row.generation)},
    )
    return True


def _end(  # noqa: PLR0913  (an end, and why)
    connection: Transaction, row: Row, event: JobEvent, code: str, reason: str, *, by: Actor
) -> None:
    this = {"of_job": row.job, "of_generation": row.generation, "of_state": row.state}
    gone = connection.execute(_END_OPEN, this).first()
    if gone is None:
        return
    is_leased = row.state == JobState.LEASED.value
    attempt = Attempt(row.job, row.generation, row.node, row.name) if is_leased else None
    end_job(connection, gone, event, by=by, attempt=attempt, said=gateway_said(reason), because=(code, reason))


def _gone(connection: Transaction, held: Held) -> Row:
    row = connection.execute(_END_HELD, held.key()).first()
    _one_row(int(row is not None))
    return row


def _tell_lease(connection: Transaction, leased: Row, node: str) -> Row:
    tell(
        connection,
        Action.JOB_LEASED,
        job_object(leased.job),
        by=node_actor(node),
        tenant=leased.tenant,
        before=JobState.QUEUED.value,
        after=JobState.LEASED.value,
        details={"node": node, "generation": str(leased.generation), "token": digest(leased.token.encode())},
    )
    return leased


def _one_row(rows: int) -> None:
    if rows != 1:
        message = "this lease is over: the job was finished, cancelled, or leased to somebody else"
        raise LeaseLostError(message)
