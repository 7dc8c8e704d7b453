"""Jobs as their tenant knows them: submitted, watched, cancelled, fetched.

An order is accepted when

1. its signature holds, under the client key that it names, it is not dated ahead of the database's clock by more than `CLOCK_SKEW`
   (no receipt for it could be taken then), and its deadline has not passed;
2. it names the caller's tenant, which has not revoked the client's key (`signers`);
3. its model is in the catalogue, has not expired, and is the one that the order's reference names;
4. where the model runs in lane `tee`, and there alone, it names nodes, and a seal comes with it, which nobody here opens. Its rows
   and its input keep the manifest's limits, and the input is stored under the tenant with that size, or comes along;
5. its evaluation key is there exactly when the manifest asks for one, is active, fits the model, and keeps the limit;
6. its rows are within what the tenant may still ask for (`budgets`).

The same order again is the same job; the same job id with another order is refused. All of it is decided and written in one
transaction. Who may compute it, and when, is in `leases`.
"""

import base64
import time
from functools import lru_cache

from sqlalchemy import bindparam, select, update

from blindgate_gateway import quotas
from blindgate_gateway.budgets import spend
from blindgate_gateway.catalogue import find_manifest
from blindgate_gateway.database import Transaction, clock, prepared, upsert
from blindgate_gateway.identity import Account, Role, require_tenant
from blindgate_gateway.keys import relied_on_key
from blindgate_gateway.listings import page
from blindgate_gateway.log.objects import job_object
from blindgate_gateway.log.telling import tell, tenant_actor
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.queues import find_queue, find_queue_of_nodes
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.signers import require_unrevoked_signer
from blindgate_gateway.stored import check_data, keep_data, send_blob
from blindgate_gateway.tables import all_jobs, blobs, job_documents, jobs
from blindgate_gateway.transitions import cancel_job
from blindgate_gateway.views import find_row, record, view_job, views
from blindgate_gateway.wakeups import QUEUE
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import (
    ClockSkewError,
    ExpiredManifestError,
    GatewayError,
    JobCancelledError,
    JobDeadError,
    JobFailedError,
    JobTimeoutError,
    PolicyError,
    TransitionError,
)
from blindgate_protocol.events import Action
from blindgate_protocol.jobs import JobState
from blindgate_protocol.keys import KeyState
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.messages import JobList, JobRecord, JobRequest, JobView
from blindgate_protocol.order import Order, check_order
from blindgate_protocol.receipts import CLOCK_SKEW
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import SMALL_BYTES, Millis

routes = Routes("jobs")

LONGEST_WAIT: Millis = 30_000
MOST_LISTED = 1000

_INPUT = prepared(
    # Counts as stored now: so nobody sweeps it away before the job that needs it is there.
    update(blobs)
    .where(blobs.c.tenant == bindparam("of_tenant"), blobs.c.digest == bindparam("of_digest"))
    .values(stored=clock())
    .returning(blobs.c.size)
)
_ORDER_OF = prepared(
    select(all_jobs.c.tenant, job_documents.c.order_digest)
    .join(job_documents, job_documents.c.job == all_jobs.c.job)
    .where(all_jobs.c.job == bindparam("job"))
)
_ADD_JOB = prepared(
    upsert(
        jobs,
        lambda statement: (
            statement.values(state=JobState.QUEUED.value, submitted=clock())
            .on_conflict_do_nothing()
            .returning(jobs.c.submitted)
        ),
    ),
    "job",
    "tenant",
    "queue",
    "rank",
    "manifest",
    "input_digest",
    "evaluation_key",
    "deadline",
)
_ADD_DOCUMENTS = prepared(
    upsert(job_documents, lambda statement: statement.on_conflict_do_nothing()), "job", "order_digest", "order", "seal"
)
_THIS = (all_jobs.c.job == bindparam("job")) & (all_jobs.c.tenant == bindparam("tenant"))
_OF_TENANT = prepared(page("latest", bindparam("most"), lambda table: table.c.tenant == bindparam("tenant")))
_STATE = prepared(select(all_jobs.c.state).where(_THIS))
_ACKNOWLEDGE = prepared(
    update(job_documents)
    .where(job_documents.c.job == bindparam("of_job"), job_documents.c.acknowledged.is_(None))
    .values(acknowledged=clock())
    .returning(job_documents.c.acknowledged)
)
_NO_RESULT: dict[JobState, str] = {
    JobState.FAILED: JobFailedError.code,
    JobState.DEAD: JobDeadError.code,
    JobState.CANCELLED: JobCancelledError.code,
    JobState.EXPIRED: JobTimeoutError.code,
}


@routes.post("/v1/jobs", roles={Role.TENANT}, body=JobRequest, answers={201: JobView, 200: JobView})
def submit(call: Call[Account, JobRequest]) -> Answer:
    """Submit a signed order, with its input if that is small. The same order again answers with the same job."""
    envelope = call.body.order.model_dump_json()
    order = opened_order(envelope)
    document, tenant = order.document, call.caller.tenant
    require_tenant(call.caller, document.tenant)
    data = call.body.input_data
    if data is not None:
        check_data(document.input, data)
    one_too_many = call.parts.backpressure.refusal(tenant)
    with call.parts.database.write() as connection:
        connection.alone("job", document.job)
        before = connection.execute(_ORDER_OF, {"job": document.job}).first()
        if before is not None:
            if (before.tenant, before.order_digest) != (tenant, order.digest):
                raise _used_before()
            return view_job(connection, document.job, tenant=tenant), 200
        if one_too_many is not None:
            raise one_too_many
        is_new = data is not None and keep_data(connection, tenant, document.input, data)
        manifest = accept_order(connection, order, along=data is not None)
        spent = spend(connection, tenant, manifest, document.rows)
        operators = call.parts.settings.operators
        family = manifest.document.family
        _check_seal(manifest.document, document, call.body.seal)
        if document.nodes is None:
            queue = find_queue(connection, tenant, family, document.operators, known=operators)
        else:
            queue = find_queue_of_nodes(connection, tenant, family, document.nodes)
        submitted = _add(connection, order, call.body, queue=queue)
        tell(
            connection,
            Action.JOB_SUBMITTED,
            job_object(document.job),
            by=tenant_actor(connection, tenant),
            tenant=tenant,
            digest=order.digest,
            after=JobState.QUEUED.value,
            details={"submitted": str(submitted), "priority": str(call.body.priority)}
            | spent
            | ({} if document.evaluation_key is None else {"key": document.evaluation_key})
            | ({} if call.body.seal is None else {"seal": digest(call.body.seal)}),
        )
        if is_new:  # last, so that nothing is waited for while the tenant's others wait for this
            quotas.reserve(connection, tenant, document.input.size, default=call.parts.settings.quota)
    call.parts.wakeups.wake(QUEUE)
    call.parts.traces.accepted(document.job)
    return JobView(job=document.job, state=JobState.QUEUED, submitted=submitted, ended=None, attempts=())


@routes.get(
    "/v1/jobs",
    roles={Role.TENANT, Role.READER},
    answers={200: JobList},
    parameters={"most": ("query", "how many jobs")},
)
def list_jobs(call: Call[Account, None]) -> Answer:
    """List the tenant's jobs, latest first."""
    most = call.query("most", default=100, most=MOST_LISTED)
    with call.parts.database.read() as connection:
        rows = connection.execute(_OF_TENANT, {"tenant": call.caller.tenant, "most": most}).all()
        return JobList(jobs=views(connection, rows))


@routes.get(
    "/v1/jobs/<job>",
    roles={Role.TENANT, Role.READER},
    answers={200: JobView},
    parameters={
        "wait": ("query", "how long to wait for the job's end, in milliseconds, at most 30000"),
        "inline": ("query", "give the result's bytes along when they are at most so many, and at most 65536"),
    },
)
def show_job(call: Call[Account, None], job: str) -> Answer:
    """Show a job; with `wait`, as soon as it has ended or the time is over."""
    until = time.monotonic() + call.query("wait", default=0, most=LONGEST_WAIT) / 1000
    inline = call.query("inline", default=0, most=SMALL_BYTES)
    database, key = call.parts.database, {"job": job, "tenant": call.caller.tenant}
    with call.parts.wakeups.watch(job) as watch:
        while True:
            row = database.look(_STATE, key)
            if row is None:
                raise not_found("job")
            if JobState(row.state).ended or not watch.wait(until):
                break
    with database.read() as connection:
        return view_job(connection, job, tenant=call.caller.tenant, inline=inline)


@routes.get("/v1/jobs/<job>/result", roles={Role.TENANT, Role.READER}, answers={200: Raw()})
def download_result(call: Call[Account, None], job: str) -> Answer:
    """Give the result's bytes: ciphertexts, for the client that holds the key."""
    with call.parts.database.read() as connection:
        row = find_row(connection, job, call.caller.tenant)
    state = JobState(row.state)
    if state is not JobState.SUCCEEDED:
        message = f"the job is {state.value}: it has no result{'' if state.ended else ' yet'}"
        raise GatewayError(message, status=409, problem=_NO_RESULT.get(state, "not-ready"))
    return send_blob(call, row.tenant, row.result_digest)


@routes.post("/v1/jobs/<job>/cancel", roles={Role.TENANT}, answers={200: JobView})
def cancel(call: Call[Account, None], job: str) -> Answer:
    """Cancel a job that has not ended. Its node is told at its next command."""
    with call.parts.database.write() as connection:
        cancel_job(connection, job, tenant=call.caller.tenant)
        view = view_job(connection, job, tenant=call.caller.tenant)
        if view.state is not JobState.CANCELLED:
            message = f"a job that is {view.state.value} cannot be cancelled"
            raise TransitionError(message)
    call.parts.wakeups.wake(job)
    return view


@routes.post("/v1/jobs/<job>/acknowledge", roles={Role.TENANT}, answers={204: None})
def acknowledge(call: Call[Account, None], job: str) -> Answer:
    """Say that the result and its receipt arrived and were checked."""
    with call.parts.database.write() as connection:
        tenant = call.caller.tenant
        row = find_row(connection, job, tenant)
        if row.state != JobState.SUCCEEDED.value:
            message = "only a job that succeeded can be acknowledged"
            raise TransitionError(message)
        acknowledged = connection.execute(_ACKNOWLEDGE, {"of_job": job}).scalar()
        if acknowledged is not None:
            tell(
                connection,
                Action.JOB_ACKNOWLEDGED,
                job_object(job),
                by=tenant_actor(connection, tenant),
                tenant=tenant,
                details={"acknowledged": str(acknowledged)},
            )
    return None


@routes.get("/v1/jobs/<job>/record", roles={Role.TENANT, Role.READER}, answers={200: JobRecord})
def show_record(call: Call[Account, None], job: str) -> Answer:
    """Show everything that the gateway stored about a job."""
    with call.parts.database.read() as connection:
        return record(connection, find_row(connection, job, call.caller.tenant))


def accept_order(connection: Transaction, order: Signed[Order], *, along: bool) -> Signed[Manifest]:
    """Decide whether a verified order can become a job (steps 1 to 5 above, but for the caller); gives its model's manifest.

    An input that came `along` has been stored by now, just as the order says. Raises what the step says.
    """
    document = order.document
    manifest, now = find_manifest(connection, document.model.manifest)
    size: int | None = document.input.size if along else _renewed_input(connection, document)
    # 1. and 3.
    ahead = document.issued - now
    if ahead > CLOCK_SKEW:
        message = (
            f"the order is dated {ahead / 1000:,.0f} s ahead of the gateway's clock:"
            f" at most {CLOCK_SKEW // 1000} s are allowed"
        )
        raise ClockSkewError(message, status=422, problem=ClockSkewError.code)
    check_order(order, model=model_ref(manifest), now=now)
    if now >= manifest.document.expires:
        message = f"model {manifest.document.name!r} version {manifest.document.version} has expired"
        raise ExpiredManifestError(message)
    # 2.
    require_unrevoked_signer(connection, document.tenant, order.signer)
    # 4.
    limits = manifest.document.limits
    check_within("rows", document.rows, limits.rows_per_job)
    check_within("input bytes", document.input.size, limits.input_bytes)
    if size is None:
        raise not_found("blob of the order's input: upload it first")
    if size != document.input.size:
        raise refusal("digest-mismatch", f"the input has {size} bytes, the order says {document.input.size}")
    # 5.
    _check_key(connection, document, manifest.document)
    return manifest


def _renewed_input(connection: Transaction, order: Order) -> int | None:
    size: int | None = connection.execute(_INPUT, {"of_tenant": order.tenant, "of_digest": order.input.digest}).scalar()
    return size


def _check_key(connection: Transaction, order: Order, manifest: Manifest) -> None:
    if (order.evaluation_key is not None) != manifest.evaluation_key:
        needs = "needs" if manifest.evaluation_key else "takes no"
        message = f"model {manifest.name!r} {needs} evaluation key"
        raise PolicyError(message)
    if order.evaluation_key is None:
        return
    statement = relied_on_key(connection, order.tenant, order.evaluation_key).document
    if statement.state is not KeyState.ACTIVE:
        raise refusal("conflict", f"the evaluation key is {statement.state.value}, not active")
    if statement.parameters != manifest.key_parameters:
        message = "the evaluation key was made for other key parameters than the model's"
        raise PolicyError(message)
    check_within("evaluation key bytes", statement.key.size, manifest.limits.evaluation_key_bytes)


def _check_seal(manifest: Manifest, order: Order, seal: bytes | None) -> None:
    sealed = manifest.lane == "tee"
    for name, given in (("the order's nodes", order.nodes), ("the seal", seal)):
        if sealed != (given is not None):
            needs = "needs" if sealed else "takes no such thing as"
            message = f"model {manifest.name!r} runs in lane {manifest.lane!r}: its job {needs} {name}"
            raise PolicyError(message)


def check_within(what: str, got: int, most: int) -> None:
    """Keep one of the manifest's limits. Raises `GatewayError`."""
    if got > most:
        raise refusal("too-large", f"{what}: got {got}, the model allows {most}")


@lru_cache(maxsize=256)
def opened_order(envelope: str) -> Signed[Order]:
    """An order, verified once in each process. Raises what `open_signed` does."""
    return open_signed(envelope.encode(), Order)


def _add(connection: Transaction, order: Signed[Order], asked: JobRequest, *, queue: str) -> Millis:
    document, envelope = order.document, asked.order.model_dump_json()
    seal = None if asked.seal is None else base64.urlsafe_b64encode(asked.seal).decode()
    job = {
        "job": document.job,
        "tenant": document.tenant,
        "queue": queue,
        "rank": -asked.priority,
        "manifest": document.model.manifest,
        "input_digest": document.input.digest,
        "evaluation_key": document.evaluation_key,
        "deadline": document.deadline,
    }
    submitted: Millis | None = connection.execute(_ADD_JOB, job).scalar()
    documents = {"job": document.job, "order_digest": order.digest, "order": envelope, "seal": seal}
    # Another tenant's job is not seen, but it is in the way.
    if submitted is None or connection.execute(_ADD_DOCUMENTS, documents).rowcount == 0:
        raise _used_before()
    return submitted


def _used_before() -> GatewayError:
    return refusal("conflict", "this job id was used before, for another order")
