"""What time ends: leases, deadlines, and the keeping of bytes that nobody needs.

Leases and deadlines are looked at whenever a node asks for work and once a second by a thread in each process, so an idle
gateway tells a waiting client in time, too. The look is a read; only if something is over does anything get written, and what
two processes find at once is written once (`transitions`).

A blob is deleted when it was stored longer ago than the retention and nothing refers to it any more: no manifest, no key that
is not destroyed, no job that has not ended. A job's end counts as storing its blobs anew (`transitions`). The row goes first and
the file inside the same transaction, so an upload of the same bytes comes wholly before or wholly after.
"""

import threading
import time

from sqlalchemy import bindparam, delete, exists, or_, select

from blindgate_gateway import partial
from blindgate_gateway.database import clock, prepared
from blindgate_gateway.idempotency import sweep_answers
from blindgate_gateway.identity import sweep_nonces
from blindgate_gateway.logs import log
from blindgate_gateway.parts import Parts
from blindgate_gateway.queues import LEASED
from blindgate_gateway.stored import remove_blob
from blindgate_gateway.tables import attempts, blobs, ended_jobs, job_documents, jobs, keys, manifests, uploads
from blindgate_gateway.transitions import expire_jobs, lose_leases
from blindgate_gateway.wakeups import QUEUE
from blindgate_protocol.keys import KeyState

LEASE_SECONDS = 1.0
RETENTION_SECONDS = 600.0
MOST_AT_ONCE = 200

_OVER = prepared(
    select(
        or_(
            exists().where(LEASED, jobs.c.leased_until <= clock()),
            exists().where(jobs.c.deadline <= clock()),
        ).label("over")
    )
)
_KEPT_SINCE = clock() - bindparam("retention")
_UNNEEDED = prepared(
    select(blobs.c.tenant, blobs.c.digest)
    .where(
        blobs.c.stored <= _KEPT_SINCE,
        ~exists().where(jobs.c.tenant == blobs.c.tenant, jobs.c.input_digest == blobs.c.digest),
        ~exists().where(jobs.c.tenant == blobs.c.tenant, LEASED, jobs.c.result_digest == blobs.c.digest),
        ~exists().where(
            keys.c.tenant == blobs.c.tenant, keys.c.digest == blobs.c.digest, keys.c.state != KeyState.DESTROYED.value
        ),
        ~exists().where(
            manifests.c.tenant == blobs.c.tenant,
            or_(manifests.c.client_digest == blobs.c.digest, manifests.c.server_digest == blobs.c.digest),
        ),
    )
    .limit(MOST_AT_ONCE)
)
_OLD_JOBS = prepared(select(ended_jobs.c.job).where(ended_jobs.c.ended <= _KEPT_SINCE).limit(MOST_AT_ONCE))
_OLD_UPLOADS = prepared(select(uploads.c.id).where(uploads.c.created <= _KEPT_SINCE).limit(MOST_AT_ONCE))
_ALL_OPEN = prepared(select(uploads.c.id).where(uploads.c.status == "parts"))


def sweep_leases(parts: Parts) -> None:
    """End the leases and the jobs whose time is over, and tell who waits for that."""
    if not parts.database.look(_OVER, {}).over:
        return
    with parts.database.write() as connection:
        expired = expire_jobs(connection)
        lost = lose_leases(connection, most=parts.settings.attempts)
    log.info("sweep.leases", expired=len(expired), lost=len(lost))
    parts.wakeups.wake(QUEUE, *expired, *lost)


def sweep_bytes(parts: Parts) -> int:
    """Delete blobs and uploads that nobody needs any more. Gives how many blobs."""
    retention = {"retention": parts.settings.retention}
    with parts.database.write() as connection:
        unneeded = connection.execute(_UNNEEDED, retention).all()
        for row in unneeded:
            remove_blob(connection, parts.blobs, row.tenant, row.digest)
        for upload in connection.execute(_OLD_UPLOADS, retention).scalars():
            connection.execute(delete(uploads).where(uploads.c.id == upload))
            partial.forget(parts.blobs.partial / upload)
    if unneeded:
        log.info("sweep.blobs", deleted=len(unneeded))
    return len(unneeded)


def sweep_records(parts: Parts) -> int:
    """Forget jobs that ended longer ago than records are kept. Gives how many."""
    with parts.database.write(durable=False) as connection:
        old = connection.execute(_OLD_JOBS, {"retention": parts.settings.records}).scalars()
        for table in (job_documents, attempts, ended_jobs):
            connection.execute(delete(table).where(table.c.job.in_(old)))
    if old:
        log.info("sweep.records", deleted=len(old))
    return len(old)


def sweep_partial(parts: Parts) -> None:
    """At start: drop partial files that no open upload owns."""
    with parts.database.read() as connection:
        known = set(connection.execute(_ALL_OPEN).scalars())
    for path in parts.blobs.partial.iterdir():
        if path.name not in known:
            partial.forget(path)


def start_sweeping(parts: Parts) -> None:
    """Sweep from a thread of this process until it ends."""
    threading.Thread(target=_sweep, args=(parts,), name="sweep", daemon=True).start()


def _sweep(parts: Parts) -> None:
    bytes_due = time.monotonic() + RETENTION_SECONDS
    while True:
        time.sleep(LEASE_SECONDS)
        try:
            sweep_leases(parts)
            sweep_nonces(parts.database)
            if time.monotonic() >= bytes_due:
                bytes_due = time.monotonic() + RETENTION_SECONDS
                sweep_answers(parts.database)
                for sweep in (sweep_bytes, sweep_records):
                    while sweep(parts) == MOST_AT_ONCE:
                        pass
        except Exception:  # noqa: BLE001
            # Whatever it was (a full disk, a busy database), the next round finds the same work again.
            log.exception("sweep.failed")
