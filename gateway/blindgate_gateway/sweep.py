"""What time ends: leases, deadlines, and the keeping of bytes that nobody needs.

Leases and deadlines are looked at whenever a node asks for work and once a second by a thread in each process, so an idle
gateway tells a waiting client in time, too. The look is a read; only if something is over does anything get written, and what
two processes find at once is written once (`transitions`). A lease that goes on for longer than any does was given by a clock that
was set back since: it goes on for as long as one given now.

A key whose destruction was scheduled is destroyed when its time has come, by the same thread, within a second or two (`keys`).

A blob is deleted when it was stored longer ago than the retention and nothing refers to it any more: no manifest, no key that
is not destroyed, no job that has not ended, no corpus as it is now. A job's end counts as storing its blobs anew (`transitions`).
One statement says all of this and deletes the row, so whoever renews the blob comes wholly before or wholly after. Its object goes
afterwards; no other blob ever has it.

Questions for evidence are forgotten after their minute, with their answers (`attestations`); so are the parts of sealed answers
(`sealed_answers`).

Every now and then a gateway shows the others that it is there (`log.believed`).

The store is gone through, too, less often: what lies there longer than the grace and has no row is deleted (`blobs`).
"""

import threading
import time

from sqlalchemy import bindparam, delete, exists, or_, select

from blindgate_gateway import quotas
from blindgate_gateway.attestations import sweep_attestations
from blindgate_gateway.console.sessions import sweep_sessions
from blindgate_gateway.database import clock, prepared
from blindgate_gateway.idempotency import sweep_answers
from blindgate_gateway.identity import sweep_nonces
from blindgate_gateway.keys import destroy_due
from blindgate_gateway.log.believed import SHOWN_EVERY, show
from blindgate_gateway.log.telling import GATEWAY, tell
from blindgate_gateway.logs import log
from blindgate_gateway.parts import Parts
from blindgate_gateway.queues import LEASED
from blindgate_gateway.sealed_answers import sweep_answer_parts
from blindgate_gateway.stored import NEEDED_BY_NOBODY, is_named
from blindgate_gateway.tables import attempts, blobs, ended_jobs, job_documents, jobs, uploads
from blindgate_gateway.transitions import expire_jobs, lose_leases, shorten_leases
from blindgate_gateway.uploads import end_upload
from blindgate_gateway.wakeups import QUEUE
from blindgate_protocol.events import Action
from blindgate_protocol.receipts import CLOCK_SKEW

LEASE_SECONDS = 1.0
RETENTION_SECONDS = 600.0
STRAYS_SECONDS = 3600.0
MOST_AT_ONCE = 200

_OVER = prepared(
    select(
        or_(
            exists().where(LEASED, jobs.c.leased_until <= clock()),
            exists().where(jobs.c.deadline <= clock()),
            exists().where(LEASED, jobs.c.leased_until > clock() + bindparam("longest")),
        ).label("over")
    )
)
_KEPT_SINCE = clock() - bindparam("retention")
_KEPT_SINCE_RECORDS = _KEPT_SINCE.label("until")
_UNNEEDED_FOR_LONG = (blobs.c.stored <= _KEPT_SINCE, *NEEDED_BY_NOBODY)
_OLD_JOBS = prepared(select(ended_jobs.c.job).where(ended_jobs.c.ended <= _KEPT_SINCE).limit(MOST_AT_ONCE))
_UNNEEDED = prepared(select(blobs.c.tenant, blobs.c.digest).where(*_UNNEEDED_FOR_LONG).limit(MOST_AT_ONCE))
_FORGET = prepared(
    delete(blobs)
    .where(blobs.c.tenant == bindparam("of_tenant"), blobs.c.digest == bindparam("of_digest"), *_UNNEEDED_FOR_LONG)
    .returning(blobs.c.size, blobs.c.object)
)
_OLD_UPLOADS = prepared(select(uploads).where(uploads.c.created <= _KEPT_SINCE).limit(MOST_AT_ONCE))


def sweep_leases(parts: Parts) -> None:
    """End the leases and the jobs whose time is over, and tell who waits for that."""
    duration = parts.settings.lease
    longest = duration + CLOCK_SKEW  # gateways on one database may have different settings
    if not parts.database.look(_OVER, {"longest": longest}).over:
        return
    with parts.database.write() as connection:
        shortened = shorten_leases(connection, longest=longest, duration=duration)
        expired = expire_jobs(connection)
        lost = lose_leases(connection, most=parts.settings.attempts)
    log.info("sweep.leases", expired=len(expired), lost=len(lost), shortened=shortened)
    parts.wakeups.wake(QUEUE, *expired, *lost)


def sweep_bytes(parts: Parts) -> int:
    """Delete blobs and uploads that nobody needs any more. Gives how many blobs."""
    retention = {"retention": parts.settings.retention}
    with parts.database.read() as connection:
        unneeded = connection.execute(_UNNEEDED, retention).all()
        old = connection.execute(_OLD_UPLOADS, retention).all()
    deleted = sum(_delete(parts, row.tenant, row.digest) for row in unneeded)
    for upload in old:
        end_upload(parts, upload)
    if deleted:
        log.info("sweep.blobs", deleted=deleted)
    return deleted


def sweep_records(parts: Parts) -> int:
    """Forget jobs that ended longer ago than records are kept. Gives how many."""
    with parts.database.write(durable=False) as connection:
        old = connection.execute(_OLD_JOBS, {"retention": parts.settings.records}).scalars()
        for table in (job_documents, attempts, ended_jobs):
            connection.execute(delete(table).where(table.c.job.in_(old)))
        if old:
            until = connection.execute(select(_KEPT_SINCE_RECORDS), {"retention": parts.settings.records}).scalar()
            details = {"kind": "jobs", "count": str(len(old)), "until": str(until)}
            tell(connection, Action.RECORDS_DELETED, "records:jobs", by=GATEWAY, details=details)
    if old:
        log.info("sweep.records", deleted=len(old))
    return len(old)


def sweep_strays(parts: Parts) -> int:
    """Delete what lies in the store and belongs to nothing. Gives how many objects and unfinished uploads."""
    deleted = 0
    for stray in parts.blobs.strays(grace=parts.settings.grace):
        # Looked for after it was seen in the store: what is there so long has its row, or never gets one.
        with parts.database.read() as connection:
            if is_named(connection, stray.object):
                continue
        parts.blobs.drop(stray)
        deleted += 1
    if deleted:
        log.info("sweep.strays", deleted=deleted)
    return deleted


def _delete(parts: Parts, tenant: str, digest: str) -> bool:
    this = {"of_tenant": tenant, "of_digest": digest, "retention": parts.settings.retention}
    with parts.database.write() as connection:
        row = connection.execute(_FORGET, this).first()
        if row is None:
            return False
        quotas.count(connection, tenant, -row.size)
    if row.object is not None:
        parts.blobs.remove(tenant, row.object)
    return True


def sweep_often(parts: Parts) -> None:
    """Do what is due every second."""
    sweep_leases(parts)
    sweep_nonces(parts.database)
    sweep_attestations(parts.database)
    sweep_answer_parts(parts.database)
    parts.database.tidy()


def start_sweeping(parts: Parts) -> None:
    """Sweep from a thread of this process until it ends."""
    threading.Thread(target=_sweep, args=(parts,), name="sweep", daemon=True).start()


def _sweep(parts: Parts) -> None:
    bytes_due = time.monotonic() + RETENTION_SECONDS
    strays_due = time.monotonic() + STRAYS_SECONDS
    show_due = time.monotonic() + SHOWN_EVERY
    while True:
        time.sleep(LEASE_SECONDS)
        try:
            sweep_often(parts)
            if time.monotonic() >= show_due:
                show_due = time.monotonic() + SHOWN_EVERY
                show(parts.database, parts.settings)
            if time.monotonic() >= bytes_due:
                bytes_due = time.monotonic() + RETENTION_SECONDS
                sweep_answers(parts.database)
                sweep_sessions(parts.database)
                for sweep in (sweep_bytes, sweep_records):
                    while sweep(parts) == MOST_AT_ONCE:
                        pass
            if time.monotonic() >= strays_due:
                strays_due = time.monotonic() + STRAYS_SECONDS
                sweep_strays(parts)
            # Last: a store that is away must not keep the rest from being done.
            destroy_due(parts)
        except Exception:  # noqa: BLE001
            # Whatever it was (a full disk, a busy database), the next round finds the same work again.
            log.exception("sweep.failed")
