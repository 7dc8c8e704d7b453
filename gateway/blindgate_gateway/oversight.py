"""What the gateway's own staff sees, over all tenants: operators how jobs go and why they end, auditors what is on record.

Both only read. An operator is shown no order, no receipt and no body: what is wrong with a queue can be seen without them. An
auditor is shown the signed documents, which name bodies by digest, and no body either.

A page goes on behind the entry that `after` names (`blindgate_protocol.oversight`). Entries have a place that does not
change, so nothing is left out or shown twice that was there when the first page was asked for. Whoever takes a list of jobs up
later may miss one that was being submitted, by another process, in the moment of the last one listed: asking again from a
little before finds it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import select, tuple_

from blindgate_gateway.database import Database, Row, Transaction
from blindgate_gateway.identity import Role, Staff
from blindgate_gateway.listings import Condition, Place, behind, page
from blindgate_gateway.logs import log
from blindgate_gateway.problems import not_found
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.tables import all_jobs, key_statements, nodes
from blindgate_gateway.views import VIEW, record, views
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import JobRecord
from blindgate_protocol.oversight import (
    JobRecords,
    NodeRecord,
    NodeRecords,
    OverseenJob,
    OverseenJobs,
    StatementRecord,
    StatementRecords,
)
from blindgate_protocol.signing import Envelope

routes = Routes("oversight")

MOST: Final = 200
_USUAL: Final = 50
_PAGE: Final = {
    "most": ("query", f"how many, at most {MOST}"),
    "after": ("query text", "where to go on: what the page before gave as `after`"),
}
_JOB_PLACE: Final = r"[0-9]{1,16}\.[0-9a-f]{32}"
_STATEMENT_PLACE: Final = r"[a-z0-9._-]{1,64}/sha256:[0-9a-f]{64}/[0-9]{1,9}"
_KEY_ID: Final = r"ed25519:[A-Za-z0-9_-]{43}"
ValueT = TypeVar("ValueT")
_NAME: Final = r"[a-z0-9._-]{1,64}"
_STATES: Final = "|".join(state.value for state in JobState)


@routes.get(
    "/v1/operator/jobs",
    roles={Role.OPERATOR},
    answers={200: OverseenJobs},
    parameters=_PAGE
    | {
        "state": ("query text", "only jobs in this state; `dead` for the dead letter"),
        "tenant": ("query text", "only this tenant's jobs"),
    },
)
def list_jobs(call: Call[Staff, None]) -> Answer:
    """List all tenants' jobs, latest first."""
    after = call.text("after", pattern=_JOB_PLACE)
    state = call.text("state", pattern=_STATES)
    found = overseen_jobs(
        call.parts.database,
        state=None if state is None else JobState(state),
        tenant=call.text("tenant", pattern=_NAME),
        after=after,
        most=_most(call),
    )
    return OverseenJobs(jobs=found, after=f"{found[-1].submitted}.{found[-1].job}" if found else after)


@routes.get("/v1/operator/jobs/<job>", roles={Role.OPERATOR}, answers={200: OverseenJob})
def show_job(call: Call[Staff, None], job: str) -> Answer:
    """Show one job of any tenant, with every attempt and its reason."""
    return overseen_job(call.parts.database, job)


@routes.get("/v1/operator/nodes", roles={Role.OPERATOR}, answers={200: NodeRecords}, parameters=_PAGE)
def list_nodes(call: Call[Staff, None]) -> Answer:
    """List the nodes that were taken in, by key."""
    return _nodes(call)


@routes.get("/v1/audit/nodes", roles={Role.AUDITOR}, answers={200: NodeRecords}, parameters=_PAGE)
def list_node_records(call: Call[Staff, None]) -> Answer:
    """List the nodes that were taken in, with their operators' certificates, by key."""
    return _nodes(call)


@routes.get("/v1/audit/jobs", roles={Role.AUDITOR}, answers={200: JobRecords}, parameters=_PAGE)
def list_records(call: Call[Staff, None]) -> Answer:
    """List what is stored about all tenants' jobs, in the order in which they were submitted."""
    after = call.text("after", pattern=_JOB_PLACE)
    conditions = [] if after is None else [behind("first", _job_place(after))]
    query = page("first", _most(call), *conditions)
    with call.parts.database.read() as connection:
        rows = connection.execute(query).all()
        records = _readable(rows, partial(record, connection))
    return JobRecords(records=records, after=f"{rows[-1].submitted}.{rows[-1].job}" if rows else after)


@routes.get("/v1/audit/jobs/<job>", roles={Role.AUDITOR}, answers={200: JobRecord})
def show_record(call: Call[Staff, None], job: str) -> Answer:
    """Show everything that the gateway stored about a job of any tenant."""
    with call.parts.database.read() as connection:
        return record(connection, _find(connection, job))


@routes.get("/v1/audit/keys", roles={Role.AUDITOR}, answers={200: StatementRecords}, parameters=_PAGE)
def list_statements(call: Call[Staff, None]) -> Answer:
    """List every statement about every evaluation key, by tenant, key and sequence number."""
    after = call.text("after", pattern=_STATEMENT_PLACE)
    table = key_statements.c
    query = select(table.tenant, table.key, table.sequence, table.envelope, table.received)
    query = query.order_by(table.tenant, table.key, table.sequence).limit(_most(call))
    if after is not None:
        tenant, key, sequence = after.split("/")
        query = query.where(tuple_(table.tenant, table.key, table.sequence) > tuple_(tenant, key, int(sequence)))
    with call.parts.database.read() as connection:
        rows = connection.execute(query).all()
    return StatementRecords(
        statements=_readable(rows, _statement),
        after=f"{rows[-1].tenant}/{rows[-1].key}/{rows[-1].sequence}" if rows else after,
    )


def overseen_jobs(
    database: Database, *, most: int, state: JobState | None = None, tenant: str | None = None, after: str | None = None
) -> tuple[OverseenJob, ...]:
    """Jobs of all tenants or of one, in all states or in one, latest first; `after` is the place of one of them."""
    conditions: list[Condition] = []
    if tenant is not None:
        conditions.append(lambda table: table.c.tenant == tenant)
    if after is not None:
        conditions.append(behind("latest", _job_place(after)))
    query = page("latest", most, *conditions, state=state)
    with database.read() as connection:
        return _overseen(connection, connection.execute(query).all())


def overseen_job(database: Database, job: str) -> OverseenJob:
    """One job of any tenant. Raises `NotFoundError`."""
    with database.read() as connection:
        return _overseen(connection, [_find(connection, job)])[0]


def _find(connection: Transaction, job: str) -> Row:
    row = connection.execute(VIEW.where(all_jobs.c.job == job)).first()
    if row is None:
        raise not_found("job")
    return row


def _overseen(connection: Transaction, rows: list[Row]) -> tuple[OverseenJob, ...]:
    return tuple(
        OverseenJob(
            job=view.job,
            tenant=row.tenant,
            state=view.state,
            submitted=view.submitted,
            ended=view.ended,
            code=view.code,
            reason=view.reason,
            attempts=view.attempts,
        )
        for row, view in zip(rows, views(connection, rows), strict=True)
    )


def _nodes(call: Call[Staff, None]) -> NodeRecords:
    after, table = call.text("after", pattern=_KEY_ID), nodes.c
    query = select(table.key, table.name, table.operator, table.enrolled, table.expires, table.certificate)
    query = query.order_by(table.key).limit(_most(call))
    if after is not None:
        query = query.where(table.key > after)
    with call.parts.database.read() as connection:
        rows = connection.execute(query).all()
    return NodeRecords(nodes=_readable(rows, _node), after=rows[-1].key if rows else after)


def _statement(row: Row) -> StatementRecord:
    return StatementRecord(
        tenant=row.tenant, received=row.received, statement=Envelope.from_bytes(row.envelope.encode())
    )


def _node(row: Row) -> NodeRecord:
    return NodeRecord(**(row._asdict() | {"certificate": Envelope.from_bytes(row.certificate.encode())}))


def _readable(rows: Sequence[Row], make: Callable[[Row], ValueT]) -> tuple[ValueT, ...]:
    """What can be made of rows.

    One that was edited into something else is left out: auditors find that it is not on record, and see it as it is (`rows`).
    """
    made = []
    for row in rows:
        try:
            made.append(make(row))
        except (BlindgateError, ValueError, TypeError, AttributeError) as error:
            log.error("record.unreadable", row=str(row[0]), error=type(error).__name__)
    return tuple(made)


def _most(call: Call[Staff, None]) -> int:
    return call.query("most", default=_USUAL, most=MOST)


def _job_place(after: str) -> Place:
    submitted, _, job = after.partition(".")
    return int(submitted), job
