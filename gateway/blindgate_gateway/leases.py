"""Who may compute a job, for how long, and what they bring back.

A lease is a generation, which counts how often the job was leased, and a token of 128 random bits. Every command carries both
in the header `Blindgate-Lease`, and each is checked by the statement that writes (`transitions`). So a node that was too slow
learns it from whatever it does next, and cannot harm its successor.

A commit is taken when

1. the receipt is signed by the node that holds the lease;
2. it answers the stored order as a client would demand it (`blindgate_protocol.receipts.check_receipt`), under an operator
   that this gateway knows too;
3. it names this generation;
4. its output is the blob that this same lease stored, or that came along, under exactly that digest and size.

The same receipt again is the same answer. Another receipt for a job that succeeded is refused, and logged: no honest node
signs two.
"""

import base64
import time

from sqlalchemy import bindparam, select

from blindgate_gateway import quotas, transitions
from blindgate_gateway.catalogue import opened_manifest
from blindgate_gateway.database import Row, Transaction, prepared
from blindgate_gateway.hangups import is_gone
from blindgate_gateway.held_leases import LEASE_PARAMETER, held_lease, lost_lease
from blindgate_gateway.identity import Node, Role
from blindgate_gateway.jobs import check_within, opened_order
from blindgate_gateway.log.objects import key_object
from blindgate_gateway.log.telling import node_actor, tell
from blindgate_gateway.logs import log
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.queues import choose, note_served
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.stored import check_data, keep_data, keep_object, send_blob
from blindgate_gateway.sweep import sweep_leases
from blindgate_gateway.tables import all_jobs, blobs, job_documents, jobs, manifests
from blindgate_gateway.transitions import HELD, Held
from blindgate_gateway.views import view_committed, view_job
from blindgate_gateway.wakeups import QUEUE
from blindgate_protocol.errors import ReceiptNodeError, ReceiptOrderError
from blindgate_protocol.events import Action
from blindgate_protocol.http_signatures import CONTENT_DIGEST
from blindgate_protocol.jobs import JobState
from blindgate_protocol.messages import (
    Commit,
    Heartbeat,
    JobView,
    Lease,
    LeaseRequest,
    Refusal,
    Release,
)
from blindgate_protocol.receipts import Receipt, check_receipt
from blindgate_protocol.signing import Envelope, Signed, open_signed
from blindgate_protocol.values import BlobRef

routes = Routes("leases")
_NODE = {Role.NODE}

_WORK = prepared(
    select(job_documents.c.order, job_documents.c.seal, manifests.c.envelope, blobs.c.data.label("input_data"))
    .join(jobs, jobs.c.job == job_documents.c.job)
    .join(manifests, manifests.c.digest == jobs.c.manifest)
    .outerjoin(blobs, (blobs.c.tenant == jobs.c.tenant) & (blobs.c.digest == jobs.c.input_digest))
    .where(jobs.c.job == bindparam("job"))
)
_BLOBS = prepared(
    select(
        jobs.c.tenant,
        jobs.c.input_digest,
        jobs.c.evaluation_key,
        manifests.c.tenant.label("publisher"),
        manifests.c.server_digest,
    )
    .join(manifests, manifests.c.digest == jobs.c.manifest)
    .where(HELD)
)
_LIMIT = prepared(
    select(jobs.c.tenant, manifests.c.envelope).join(manifests, manifests.c.digest == jobs.c.manifest).where(HELD)
)
_COMMITTED = prepared(
    select(
        all_jobs.c.tenant,
        all_jobs.c.state,
        all_jobs.c.generation,
        all_jobs.c.token,
        all_jobs.c.node,
        job_documents.c.order,
        job_documents.c.receipt_digest,
        manifests.c.envelope.label("manifest"),
    )
    .join(job_documents, job_documents.c.job == all_jobs.c.job)
    .join(manifests, manifests.c.digest == all_jobs.c.manifest)
    .where(all_jobs.c.job == bindparam("job"))
)


@routes.post("/v1/leases", roles=_NODE, body=LeaseRequest, answers={200: Lease, 204: None})
def poll(call: Call[Node, LeaseRequest]) -> Answer:
    """Ask for work; with `wait`, hold the request open until there is some. 204 when there is none.

    Gives a job whose order allows the node's operator, of the tenant whose turn it is (`queues`).
    """
    until = time.monotonic() + call.body.wait / 1000
    with call.parts.wakeups.watch(QUEUE) as watch:
        while True:
            sweep_leases(call.parts)
            lease = _take(call)
            if lease is not None:
                call.parts.traces.leased(lease.job)
            if lease is not None or not watch.wait(until) or is_gone(call.request.environ):
                return lease


@routes.post("/v1/leases/<job>/heartbeat", roles=_NODE, answers={200: Heartbeat}, parameters=LEASE_PARAMETER)
def heartbeat(call: Call[Node, None], job: str) -> Answer:
    """Say that the node still works on the job: the lease goes on."""
    duration = call.parts.settings.lease
    # Not durable: a lease that is cut short by a power failure is leased again.
    with call.parts.database.write(durable=False) as connection:
        transitions.prolong(connection, held_lease(call, job), duration=duration)
    return Heartbeat(duration=duration)


@routes.get("/v1/leases/<job>/blobs/<digest>", roles=_NODE, answers={200: Raw()}, parameters=LEASE_PARAMETER)
def download(call: Call[Node, None], job: str, digest: str) -> Answer:
    """Give what the job needs: its input, its evaluation key, or its model's server part. Nothing else."""
    row = call.parts.database.look(_BLOBS, held_lease(call, job).key())
    if row is None:
        raise lost_lease()
    if digest == row.evaluation_key:
        _tell_sent(call, row.tenant, job, digest)
    if digest in {row.input_digest, row.evaluation_key}:
        return send_blob(call, row.tenant, digest)
    if digest == row.server_digest:
        return send_blob(call, row.publisher, digest)
    raise not_found("blob of this job")


@routes.put(
    "/v1/leases/<job>/result",
    roles=_NODE,
    body=Raw(),
    answers={204: None},
    parameters=LEASE_PARAMETER
    | {CONTENT_DIGEST: ("header", "the digest of the body, as in every signed request with a body")},
)
def put_result(call: Call[Node, None], job: str) -> Answer:
    """Store the result's bytes under this lease. The last ones stored are those that can be committed."""
    held, announced = held_lease(call, job), call.announced()
    row = call.parts.database.look(_LIMIT, held.key())
    if row is None:
        raise lost_lease()
    length = call.length(opened_manifest(row.envelope).document.limits.result_bytes)
    with call.parts.blobs.incoming(row.tenant, announced) as incoming:
        incoming.fill(call.request.stream, length)
        if incoming.digest != announced:
            raise refusal("digest-mismatch", f"the body is not what the signed {CONTENT_DIGEST} names")
        name, blob = incoming.settle(), BlobRef(digest=announced, size=length)
        with call.parts.database.write() as connection:
            transitions.note_result(connection, held, blob)
            keep_object(connection, row.tenant, blob, name)
    return None


@routes.post("/v1/leases/<job>/commit", roles=_NODE, body=Commit, answers={200: JobView}, parameters=LEASE_PARAMETER)
def commit(call: Call[Node, Commit], job: str) -> Answer:
    """Finish the job with a signed receipt for the result that was stored or, if it is small, comes along.

    The same commit again changes nothing.
    """
    held, data = held_lease(call, job), call.body.result_data
    receipt = open_signed(call.body.receipt, Receipt)
    row = call.parts.database.look(_COMMITTED, {"job": job})
    if row is not None and _repeats(held, row, receipt):
        with call.parts.database.read() as connection:
            return view_job(connection, job, tenant=row.tenant)
    if row is None or (row.generation, row.token, row.node) != (held.generation, held.token, held.node):
        raise lost_lease()
    _check(call, held, row, receipt)
    with call.parts.database.write() as connection:
        ended = transitions.commit(connection, held, receipt, brought=data is not None)
        if ended is None:
            _explain(connection, held, receipt)
            view = view_job(connection, job, tenant=row.tenant)
        else:
            if data is not None and keep_data(connection, row.tenant, receipt.document.output, data):
                quotas.count(connection, row.tenant, len(data))
            view = view_committed(connection, ended, receipt)
    call.parts.wakeups.wake(job)
    return view


@routes.post("/v1/leases/<job>/refuse", roles=_NODE, body=Refusal, answers={200: JobView}, parameters=LEASE_PARAMETER)
def refuse(call: Call[Node, Refusal], job: str) -> Answer:
    """Say that the job can never be computed: it failed, and is not tried again."""
    with call.parts.database.write() as connection:
        transitions.refuse(connection, held_lease(call, job), code=call.body.code, reason=call.body.reason)
        view = _view(connection, job)
    call.parts.wakeups.wake(job)
    return view


@routes.post("/v1/leases/<job>/release", roles=_NODE, body=Release, answers={200: JobView}, parameters=LEASE_PARAMETER)
def release(call: Call[Node, Release], job: str) -> Answer:
    """Give the job back unfinished: another attempt may finish it, unless this was the last."""
    body, most = call.body, call.parts.settings.attempts
    with call.parts.database.write() as connection:
        transitions.release(connection, held_lease(call, job), code=body.code, reason=body.reason, most=most)
        view = _view(connection, job)
    call.parts.wakeups.wake(job, QUEUE)
    return view


def _take(call: Call[Node, LeaseRequest]) -> Lease | None:
    parts, node, wanted, settings = call.parts, call.caller, call.body, call.parts.settings
    while True:
        turn = choose(
            parts.database,
            node=node.key,
            operator=node.operator,
            families=wanted.families,
            in_flight=settings.in_flight,
        )
        if turn is None:
            return None
        with parts.database.write() as connection:
            leased = transitions.claim(connection, turn, node=node.key, under=wanted.keys, duration=settings.lease)
            if leased is not None:
                if one_writer := connection.dialect == "sqlite":
                    note_served(connection, leased.tenant)
                work = connection.execute(_WORK, {"job": leased.job}).one()
                break
        # Others were faster: look again.
    if not one_writer:
        # Apart, so that leases of one tenant's jobs do not wait for each other's commits. Nobody is promised it.
        with parts.database.write(durable=False) as connection:
            note_served(connection, leased.tenant)
    return Lease(
        job=leased.job,
        generation=leased.generation,
        token=leased.token,
        duration=settings.lease,
        order=Envelope.from_bytes(work.order.encode()),
        manifest=Envelope.from_bytes(work.envelope.encode()),
        input_data=work.input_data,
        seal=None if work.seal is None else base64.urlsafe_b64decode(work.seal),
    )


def _tell_sent(call: Call[Node, None], tenant: str, job: str, key: str) -> None:
    with call.parts.database.write() as connection:
        node = call.caller.key
        details = {"job": job, "node": node}
        tell(
            connection,
            Action.KEY_SENT,
            key_object(key),
            by=node_actor(node),
            tenant=tenant,
            digest=key,
            details=details,
        )


def _check(call: Call[Node, Commit], held: Held, row: Row, receipt: Signed[Receipt]) -> None:
    # 1.
    if receipt.signer != held.node:
        message = f"the receipt is signed by {receipt.signer}, not by the node that holds the lease"
        raise ReceiptNodeError(message)
    # 2.
    operators = call.parts.settings.operators
    manifest = opened_manifest(row.manifest)
    check_receipt(receipt, opened_order(row.order), manifest, operators=operators)
    # 3.
    if receipt.document.generation != held.generation:
        message = f"the receipt is of generation {receipt.document.generation}, the lease of {held.generation}"
        raise ReceiptOrderError(message)
    # 4. What was stored before is compared by the statement that commits.
    if call.body.result_data is not None:
        check_within("result bytes", receipt.document.output.size, manifest.document.limits.result_bytes)
        check_data(receipt.document.output, call.body.result_data)


def _repeats(held: Held, row: Row, receipt: Signed[Receipt]) -> bool:
    if row.state != JobState.SUCCEEDED.value or row.node != held.node or row.generation != held.generation:
        return False
    if row.receipt_digest == receipt.digest:
        return bool(row.token == held.token)
    log.warning("commit.contradiction", job=held.job, node=held.node, receipt=receipt.digest, stored=row.receipt_digest)
    raise refusal("conflict", "the job was committed before, with another receipt")


def _explain(connection: Transaction, held: Held, receipt: Signed[Receipt]) -> None:
    # 4. Either the same commit won in another request, which is no refusal, or this says why not.
    if _repeats(held, connection.execute(_COMMITTED, {"job": held.job}).one(), receipt):
        return
    if connection.execute(_LIMIT, held.key()).first() is None:
        raise lost_lease()
    raise refusal("digest-mismatch", "this lease stored no blob with the digest and size of the receipt's output")


def _view(connection: Transaction, job: str) -> JobView:
    tenant = connection.execute(select(all_jobs.c.tenant).where(all_jobs.c.job == job)).scalar()
    return view_job(connection, job, tenant=tenant)
