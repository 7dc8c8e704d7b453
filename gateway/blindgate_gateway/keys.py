"""Evaluation keys: what their owners said about them, in order, and what follows for their bytes.

A key is a blob that the tenant uploaded and a chain of statements that the tenant's client signed. The chain is kept whole.
A statement is taken when it follows on the last one (`blindgate_protocol.keys.check_statement`), which the database decides:
two statements with one sequence number cannot both be stored.

What a state means to the gateway:

- `registered`: known; no job may use it yet;
- `active`: jobs may use it;
- `suspended`: no new job may use it, and waiting jobs are not leased until it is active again;
- `superseded`: no new job may use it; waiting jobs still run;
- `destroyed`: its waiting and running jobs are cancelled and its bytes are deleted, wherever and in how many versions they
  lie, before the owner is answered; they are never taken in again.
"""

from sqlalchemy import bindparam, insert, select, update

from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.identity import Account, Role, require_tenant
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.stored import forget_blob, renewed_size
from blindgate_gateway.tables import key_statements, keys
from blindgate_gateway.transitions import cancel_jobs_under, hold_jobs_under
from blindgate_gateway.uploads import end_uploads_of
from blindgate_gateway.wakeups import QUEUE
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.keys import KeyState, KeyStatement, check_statement
from blindgate_protocol.messages import KeyList, KeyRequest, KeyView
from blindgate_protocol.signing import Signed, open_signed

routes = Routes("keys")

_LATEST = (
    select(key_statements.c.digest, key_statements.c.envelope)
    .join(
        keys,
        (keys.c.tenant == key_statements.c.tenant)
        & (keys.c.digest == key_statements.c.key)
        & (keys.c.sequence == key_statements.c.sequence),
    )
    .order_by(key_statements.c.received, key_statements.c.key)
)
_OF_TENANT = prepared(_LATEST.where(keys.c.tenant == bindparam("tenant")))
_THIS = _LATEST.where(keys.c.tenant == bindparam("tenant"), keys.c.digest == bindparam("digest"))
_OF_KEY = prepared(_THIS)
_RELIED_ON = prepared(_THIS.with_for_update(read=True, of=keys))


@routes.post("/v1/keys", roles={Role.TENANT}, body=KeyRequest, answers={201: KeyView, 200: KeyView})
def state_key(call: Call[Account, KeyRequest]) -> Answer:
    """Register an uploaded evaluation key, or tell of its next state. The same statement again changes nothing."""
    statement = open_signed(call.body.statement, KeyStatement)
    document, tenant = statement.document, call.caller.tenant
    require_tenant(call.caller, document.tenant)
    cancelled: list[str] = []
    with call.parts.database.write() as connection:
        connection.alone("key", tenant, document.key.digest)
        row = connection.execute(_OF_KEY, {"tenant": tenant, "digest": document.key.digest}).first()
        if row is not None and row.digest == statement.digest:
            return _view(_opened(row)), 200
        previous = None if row is None else _opened(row)
        check_statement(statement, previous)
        if previous is not None and previous.document.parameters != document.parameters:
            message = "the statement names other key parameters than the one before"
            raise MalformedError(message)
        if document.state is not KeyState.DESTROYED:
            _check_blob(connection, statement)
        _store(connection, statement, first=previous is None)
        suspended = document.state is KeyState.SUSPENDED
        if suspended or (previous is not None and previous.document.state is KeyState.SUSPENDED):
            hold_jobs_under(connection, tenant, document.key.digest, held=suspended)
        if document.state is KeyState.DESTROYED:
            cancelled = cancel_jobs_under(connection, tenant, document.key.digest)
            forget_blob(connection, tenant, document.key.digest)
            end_uploads_of(connection, tenant, document.key.digest)
            # Before the transaction ends: if the store cannot do it now, nothing was destroyed, and the owner is told so.
            call.parts.blobs.purge(tenant, document.key.digest)
    call.parts.wakeups.wake(QUEUE, *cancelled)
    return _view(statement), 201 if previous is None else 200


@routes.get("/v1/keys", roles={Role.TENANT, Role.READER}, answers={200: KeyList})
def list_keys(call: Call[Account, None]) -> Answer:
    """List the tenant's keys, destroyed ones too."""
    with call.parts.database.read() as connection:
        rows = connection.execute(_OF_TENANT, {"tenant": call.caller.tenant}).all()
    return KeyList(keys=tuple(_view(_opened(row)) for row in rows))


@routes.get("/v1/keys/<digest>", roles={Role.TENANT, Role.READER}, answers={200: KeyView})
def show_key(call: Call[Account, None], digest: str) -> Answer:
    """Show one key and the last statement about it."""
    with call.parts.database.read() as connection:
        row = connection.execute(_OF_KEY, {"tenant": call.caller.tenant, "digest": digest}).first()
    if row is None:
        raise not_found("key")
    return _view(_opened(row))


def relied_on_key(connection: Transaction, tenant: str, digest: str) -> Signed[KeyStatement]:
    """The last statement about a tenant's key, which stays the last until this transaction ends. Raises `NotFoundError`."""
    row = connection.execute(_RELIED_ON, {"tenant": tenant, "digest": digest}).first()
    if row is None:
        raise not_found("key")
    return _opened(row)


def _check_blob(connection: Transaction, statement: Signed[KeyStatement]) -> None:
    key, tenant = statement.document.key, statement.document.tenant
    size = renewed_size(connection, tenant, key.digest)
    if size is None:
        raise not_found("blob of this key: upload it before the statement")
    if size != key.size:
        raise refusal("digest-mismatch", f"the key's blob has {size} bytes, the statement says {key.size}")


def _store(connection: Transaction, statement: Signed[KeyStatement], *, first: bool) -> None:
    document = statement.document
    now = {"state": document.state.value, "sequence": document.sequence}
    if first:
        connection.execute(insert(keys).values(tenant=document.tenant, digest=document.key.digest, **now))
    else:
        moved = update(keys).where(
            keys.c.tenant == document.tenant,
            keys.c.digest == document.key.digest,
            keys.c.sequence == document.sequence - 1,
        )
        if connection.execute(moved.values(**now)).rowcount != 1:
            raise refusal("conflict", "another statement about this key came first")
    connection.execute(
        insert(key_statements).values(
            tenant=document.tenant,
            key=document.key.digest,
            sequence=document.sequence,
            digest=statement.digest,
            envelope=statement.envelope.model_dump_json(),
            received=clock(),
        )
    )


def _opened(row: Row) -> Signed[KeyStatement]:
    return open_signed(row.envelope.encode(), KeyStatement)


def _view(statement: Signed[KeyStatement]) -> KeyView:
    document = statement.document
    return KeyView(key=document.key, parameters=document.parameters, state=document.state, statement=statement.envelope)
