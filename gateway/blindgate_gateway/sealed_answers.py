"""Sealed answers while they are written: carried from the node to who asked, unread.

The node of a sealed job sends the bytes of its answer as it makes them; its tenant reads them from any place on, as often as it
likes, and is woken when there are more. What was sent counts for nothing: the job ends with a receipt over the whole, which is a
blob as every result is, and a client that missed a part, or was cut off, has it from there.

A part is taken when

1. the node holds the lease under which it is sent; each lease of a job has an answer of its own;
2. it begins where the answer ends so far. One that begins earlier was sent twice, and changes nothing;
3. the answer is then no longer than the model's results may be.

Parts are gone a few minutes after they were sent, unless their lease goes on. Nobody waits for a disk because of them: what a
power failure takes is in the result.
"""

import time
from typing import Final

from sqlalchemy import bindparam, delete, exists, func, select

from blindgate_gateway.catalogue import opened_manifest
from blindgate_gateway.database import Database, Row, clock, prepared, upsert
from blindgate_gateway.held_leases import LEASE_PARAMETER, held_lease, lost_lease
from blindgate_gateway.identity import Account, Node, Role
from blindgate_gateway.jobs import LONGEST_WAIT, check_within
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.queues import LEASED
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.tables import all_jobs, answer_parts, jobs, manifests
from blindgate_gateway.transitions import HELD
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import AnswerPart, AnswerView
from blindgate_protocol.values import SMALL_BYTES

routes = Routes("sealed_answers")

KEPT: Final = 120_000
"""For how many milliseconds a part is there at least."""

_PARTS_AT_ONCE: Final = 256
_FURTHEST: Final = (1 << 53) - 1
_OF_LEASE = (answer_parts.c.job == jobs.c.job) & (answer_parts.c.generation == jobs.c.generation)
_LAST = (
    select(answer_parts.c.begin + func.length(answer_parts.c.data))
    .where(_OF_LEASE)
    .order_by(answer_parts.c.begin.desc())
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
)
_LIMIT = prepared(
    select(jobs.c.tenant, manifests.c.envelope, func.coalesce(_LAST, 0).label("end"))
    .join(manifests, manifests.c.digest == jobs.c.manifest)
    .where(HELD)
)
_ADD = prepared(
    upsert(answer_parts, lambda statement: statement.values(stored=clock()).on_conflict_do_nothing()),
    "job",
    "generation",
    "begin",
    "tenant",
    "data",
)
_STANDS = prepared(
    select(all_jobs.c.state, all_jobs.c.generation, all_jobs.c.node).where(
        all_jobs.c.job == bindparam("job"), all_jobs.c.tenant == bindparam("tenant")
    )
)
_BEHIND = prepared(
    select(answer_parts.c.begin, answer_parts.c.data)
    .where(
        answer_parts.c.job == bindparam("job"),
        answer_parts.c.generation == bindparam("generation"),
        answer_parts.c.tenant == bindparam("tenant"),
        # A part is no longer than a message's blob: so the index says where to begin.
        answer_parts.c.begin > bindparam("begin") - SMALL_BYTES,
        answer_parts.c.begin + func.length(answer_parts.c.data) > bindparam("begin"),
    )
    .order_by(answer_parts.c.begin)
    .limit(bindparam("most"))
)
_OVER = (answer_parts.c.stored < clock() - KEPT) & ~exists().where(_OF_LEASE, LEASED)
_ANY_OVER = prepared(select(exists().where(_OVER).label("any")))
_FORGET = prepared(delete(answer_parts).where(_OVER))


@routes.post(
    "/v1/leases/<job>/answer", roles={Role.NODE}, body=AnswerPart, answers={204: None}, parameters=LEASE_PARAMETER
)
def add_part(call: Call[Node, AnswerPart], job: str) -> Answer:
    """Send the next bytes of a sealed answer, for whoever reads it while it is written. The same bytes again change nothing."""
    held, part = held_lease(call, job), call.body
    with call.parts.database.write(durable=False) as connection:
        # 1.
        row = connection.execute(_LIMIT, held.key()).first()
        if row is None:
            raise lost_lease()
        # 2.
        if part.begin < row.end:
            return None
        if part.begin > row.end:
            raise refusal("conflict", f"the answer has {row.end} bytes so far, and this part begins at {part.begin}")
        # 3.
        most = opened_manifest(row.envelope).document.limits.result_bytes
        check_within("answer bytes", part.begin + len(part.data), most)
        stored = {
            "job": job,
            "generation": held.generation,
            "begin": part.begin,
            "tenant": row.tenant,
            "data": part.data,
        }
        connection.execute(_ADD, stored)
    call.parts.wakeups.wake(job)
    return None


@routes.get(
    "/v1/jobs/<job>/answer",
    roles={Role.TENANT, Role.READER},
    answers={200: AnswerView},
    parameters={
        "generation": ("query", "of which lease; without it, of the one that is there now"),
        "begin": ("query", "from which byte on"),
        "wait": ("query", "how long to wait for more, in milliseconds, at most 30000"),
    },
)
def show_answer(call: Call[Account, None], job: str) -> Answer:
    """Show a sealed answer from a place on, while it is written; with `wait`, as soon as there is more or the job has ended."""
    until = time.monotonic() + call.query("wait", default=0, most=LONGEST_WAIT) / 1000
    begin, wanted = call.query("begin", default=0, most=_FURTHEST), call.query("generation", default=0, most=_FURTHEST)
    database, this = call.parts.database, {"job": job, "tenant": call.caller.tenant}
    with call.parts.wakeups.watch(job) as watch:
        while True:
            row = database.look(_STANDS, this)
            if row is None:
                raise not_found("job")
            generation = wanted or row.generation
            data = _from(database, this | {"generation": generation, "begin": begin}) if generation else b""
            is_other = JobState(row.state).ended or generation != row.generation
            if data or is_other or not watch.wait(until):
                node = row.node if generation == row.generation else None
                return AnswerView(
                    job=job, state=JobState(row.state), generation=generation, node=node, begin=begin, data=data
                )


def sweep_answer_parts(database: Database) -> None:
    """Forget parts that were sent a while ago, and whose lease does not go on."""
    if not database.look(_ANY_OVER, {}).any:
        return
    with database.write(durable=False) as connection:
        connection.execute(_FORGET)


def _from(database: Database, place: dict[str, object]) -> bytes:
    """What there is of the answer from `begin` on, up to what a message holds."""
    begin, found = place["begin"], bytearray()
    assert isinstance(begin, int)  # noqa: S101
    with database.read() as connection:
        rows: list[Row] = list(connection.execute(_BEHIND, place | {"most": _PARTS_AT_ONCE}).all())
    for row in rows:
        if row.begin > begin + len(found):
            break
        found += bytes(row.data)[begin + len(found) - row.begin :]
    return bytes(found[:SMALL_BYTES])
