"""What is told of a job: to its tenant, to the node that commits it, and, as a record, to auditors.

Rows of `VIEW` have all of it but the attempts, which are read for many jobs at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import FromClause, Select, bindparam, select

from blindgate_gateway.database import Row, Transaction, prepared
from blindgate_gateway.problems import not_found
from blindgate_gateway.stored import find_data
from blindgate_gateway.tables import all_jobs, attempts, blobs, job_documents
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import Attempt, JobRecord, JobView, StoredBlob
from blindgate_protocol.receipts import Receipt
from blindgate_protocol.signing import Envelope, Signed
from blindgate_protocol.values import BlobRef


def view_of(source: FromClause) -> Select[Any]:
    """What is told of the jobs in `source`: `all_jobs`, or a part of it."""
    given = source.c
    return select(
        given.job,
        given.tenant,
        given.state,
        given.submitted,
        given.ended,
        given.generation,
        given.input_digest,
        given.evaluation_key,
        given.result_digest,
        given.result_size,
        job_documents.c.code,
        job_documents.c.reason,
        job_documents.c.receipt,
        job_documents.c.order,
    ).join(job_documents, job_documents.c.job == given.job)


VIEW = view_of(all_jobs)
_OF_JOB = prepared(VIEW.where(all_jobs.c.job == bindparam("job"), all_jobs.c.tenant == bindparam("tenant")))
_ATTEMPTS = prepared(
    select(attempts.c.job, attempts.c.generation, attempts.c.node, attempts.c.outcome, attempts.c.reason)
    .where(attempts.c.job.in_(bindparam("jobs", expanding=True)))
    .order_by(attempts.c.job, attempts.c.generation)
)
_STORED = prepared(
    select(blobs.c.digest, blobs.c.size, blobs.c.stored).where(
        blobs.c.tenant == bindparam("tenant"), blobs.c.digest.in_(bindparam("digests", expanding=True))
    )
)


def view_job(connection: Transaction, job: str, *, tenant: str, inline: int = 0) -> JobView:
    """A tenant's job as it stands, with a result of up to `inline` bytes. Raises `NotFoundError`."""
    view = views(connection, [find_row(connection, job, tenant)])[0]
    if view.result is None or view.result.size > inline:
        return view
    return view.model_copy(update={"result_data": find_data(connection, tenant, view.result.digest)})


def find_row(connection: Transaction, job: str, tenant: str) -> Row:
    """The row of `VIEW` of a tenant's job. Raises `NotFoundError`."""
    row = connection.execute(_OF_JOB, {"job": job, "tenant": tenant}).first()
    if row is None:
        raise not_found("job")
    return row


def views(connection: Transaction, rows: Sequence[Row]) -> tuple[JobView, ...]:
    """Rows of `VIEW` as their tenants see them, with every attempt."""
    tried = _attempts(connection, [row.job for row in rows if row.generation])
    return tuple(_view(row, tuple(tried.get(row.job, ()))) for row in rows)


def view_committed(connection: Transaction, row: Row, receipt: Signed[Receipt]) -> JobView:
    """The view of a job that just succeeded with `receipt`: its row is one of `ended_jobs`."""
    return JobView(
        job=row.job,
        state=JobState.SUCCEEDED,
        submitted=row.submitted,
        ended=row.ended,
        attempts=tuple(_attempts(connection, [row.job])[row.job]),
        receipt=receipt.envelope,
        result=receipt.document.output,
    )


def _attempts(connection: Transaction, jobs: Sequence[str]) -> Mapping[str, list[Attempt]]:
    tried: dict[str, list[Attempt]] = {}
    for row in connection.execute(_ATTEMPTS, {"jobs": jobs}).all() if jobs else ():
        attempt = Attempt(generation=row.generation, node=row.node, outcome=row.outcome, reason=row.reason)
        tried.setdefault(row.job, []).append(attempt)
    return tried


def _view(row: Row, tried: tuple[Attempt, ...]) -> JobView:
    state = JobState(row.state)
    succeeded = state is JobState.SUCCEEDED
    return JobView(
        job=row.job,
        state=state,
        submitted=row.submitted,
        ended=row.ended,
        attempts=tried,
        code=row.code,
        reason=row.reason,
        receipt=Envelope.from_bytes(row.receipt.encode()) if succeeded else None,
        result=BlobRef(digest=row.result_digest, size=row.result_size) if succeeded else None,
    )


def record(connection: Transaction, row: Row) -> JobRecord:
    """All that is stored about the job in a row of `VIEW`."""
    view = views(connection, [row])[0]
    roles = {row.evaluation_key: "evaluation key", row.input_digest: "input"}
    if view.result is not None:
        roles[row.result_digest] = "result"
    stored = connection.execute(_STORED, {"tenant": row.tenant, "digests": list(filter(None, roles))}).all()
    found = {blob.digest: blob for blob in stored}
    return JobRecord(
        job=row.job,
        tenant=row.tenant,
        state=view.state,
        order=Envelope.from_bytes(row.order.encode()),
        receipt=view.receipt,
        blobs=tuple(
            StoredBlob.model_validate(
                {"role": role, "digest": digest, "size": found[digest].size, "stored": found[digest].stored}
            )
            for digest, role in reversed(roles.items())
            if digest in found
        ),
        attempts=view.attempts,
    )
