"""Jobs whose every attempt was lost: taken up again when whatever was wrong with the nodes is mended.

A dead job keeps its order, its input (for as long as blobs are kept) and every attempt's reason. It is sent again when its order
would be accepted now: the deadline has not passed, model and key are still good, the input is still there.
"""

from collections.abc import Collection

from sqlalchemy import bindparam, select

from blindgate_gateway import transitions
from blindgate_gateway.database import Database, prepared
from blindgate_gateway.jobs import accept_order, opened_order
from blindgate_gateway.problems import not_found
from blindgate_gateway.queues import find_queue
from blindgate_gateway.tables import all_jobs, job_documents
from blindgate_protocol.errors import TransitionError
from blindgate_protocol.jobs import JobState

_ORDER = prepared(
    select(all_jobs.c.state, job_documents.c.order)
    .join(job_documents, job_documents.c.job == all_jobs.c.job)
    .where(all_jobs.c.job == bindparam("job"))
)


def resend(database: Database, job: str, *, operators: Collection[str]) -> None:
    """Let a dead job wait for a node again, with fresh attempts; those that it had stay on record.

    Raises `NotFoundError`, `TransitionError` when it is not dead, and whatever `jobs.accept_order` says against it.
    """
    with database.write() as connection:
        connection.alone("job", job)
        row = connection.execute(_ORDER, {"job": job}).first()
        if row is None:
            raise not_found(f"job: {job}")
        if row.state != JobState.DEAD.value:
            message = f"job {job} is {row.state}: only a dead job can be sent again"
            raise TransitionError(message)
        order = opened_order(row.order)
        manifest = accept_order(connection, order, along=False)
        document, family = order.document, manifest.document.family
        queue = find_queue(connection, document.tenant, family, document.operators, known=operators)
        transitions.resend(connection, job, queue=queue)
