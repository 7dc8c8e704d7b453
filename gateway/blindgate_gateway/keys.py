"""Evaluation keys: what their owners said about them, in order, and what follows for their bytes.

A key is a blob that the tenant uploaded and a chain of statements that the tenant's client signed. The chain is kept whole.
A statement is taken when it follows on the last one (`blindgate_protocol.keys.check_statement`), which the database decides:
two statements with one sequence number cannot both be stored.

What a state means to the gateway:

- `registered`: known; no job may use it yet;
- `active`: jobs may use it;
- `suspended`: no new job may use it, and waiting jobs are not leased until it is active again;
- `superseded`, `deactivated`: no new job may use it; waiting jobs still run;
- `compromised`: its waiting and running jobs are cancelled, and there is never another, so no node is sent its bytes any more. They
  are kept until their owner has them destroyed;
- `destruction-scheduled`: as suspended, until the time that the owner has signed; then it is destroyed. Who finds out by this that
  the key is still needed has its owner call it off;
- `destroyed`: its waiting and running jobs are cancelled and its bytes are deleted, wherever and in how many versions they
  lie, before the owner is answered; they are never taken in again.

A scheduled destruction is carried out by whichever gateway sees first that its time has come, by the database's clock
(`destroy_due`). No new statement is needed, and none is made up: the key is shown as `destroyed` from then on, and the owner's
statement of `destruction-scheduled` stays the last one and is the ground for it. The owner may sign `destroyed` afterwards, which
is taken like any other statement, and nothing else is.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import bindparam, insert, select, update

from blindgate_gateway.blobs import Blobs
from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.identity import Account, Role, require_tenant
from blindgate_gateway.log.objects import key_object
from blindgate_gateway.log.telling import GATEWAY, Actor, tell
from blindgate_gateway.logs import log
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Answer, Call, Routes
from blindgate_gateway.signers import require_unrevoked_signer
from blindgate_gateway.stored import forget_blob, renewed_size
from blindgate_gateway.tables import key_statements, keys
from blindgate_gateway.transitions import cancel_jobs_under, hold_jobs_under
from blindgate_gateway.uploads import end_uploads_of
from blindgate_gateway.wakeups import QUEUE
from blindgate_protocol.events import Action
from blindgate_protocol.keys import HOLDING, KeyState, KeyStatement, check_statement
from blindgate_protocol.messages import KeyList, KeyRequest, KeyView
from blindgate_protocol.signing import Signed, open_signed
from blindgate_protocol.values import Millis

routes = Routes("keys")

_CANCELLING: Final = {
    KeyState.COMPROMISED: "its evaluation key is compromised",
    KeyState.DESTROYED: "its evaluation key was destroyed",
}
_IN_USE: Final = frozenset({KeyState.REGISTERED, KeyState.ACTIVE})
"""A key that becomes one of these must have its bytes here. What is said of it otherwise is taken even if they were lost."""
_ACTIONS: Final = {
    KeyState.REGISTERED: Action.KEY_REGISTERED,
    KeyState.ACTIVE: Action.KEY_ACTIVATED,
    KeyState.SUSPENDED: Action.KEY_SUSPENDED,
    KeyState.SUPERSEDED: Action.KEY_SUPERSEDED,
    KeyState.DEACTIVATED: Action.KEY_DEACTIVATED,
    KeyState.COMPROMISED: Action.KEY_COMPROMISED,
    KeyState.DESTRUCTION_SCHEDULED: Action.KEY_DESTRUCTION_SCHEDULED,
    KeyState.DESTROYED: Action.KEY_DESTROYED,
}
_MOST_AT_ONCE: Final = 200

_IS_DUE = keys.c.destroy_at <= clock()
_LATEST = (
    select(key_statements.c.digest, key_statements.c.envelope, keys.c.state, _IS_DUE.label("due"))
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
_STATEMENT = prepared(
    select(key_statements.c.envelope).where(
        key_statements.c.tenant == bindparam("tenant"),
        key_statements.c.key == bindparam("digest"),
        key_statements.c.sequence == bindparam("sequence"),
    )
)
_DUE = prepared(select(keys.c.tenant, keys.c.digest).where(_IS_DUE).limit(_MOST_AT_ONCE))
_CARRY_OUT = prepared(
    update(keys)
    .where(keys.c.tenant == bindparam("of_tenant"), keys.c.digest == bindparam("of_digest"), _IS_DUE)
    .values(state=KeyState.DESTROYED.value, destroy_at=None)
)
_RELIED_ON = prepared(_THIS.with_for_update(read=True, of=keys))


@routes.post("/v1/keys", roles={Role.TENANT}, body=KeyRequest, answers={201: KeyView, 200: KeyView})
def state_key(call: Call[Account, KeyRequest]) -> Answer:
    """Register an uploaded evaluation key, or tell of its next state. The same statement again changes nothing."""
    statement = open_signed(call.body.statement, KeyStatement)
    document, tenant = statement.document, call.caller.tenant
    require_tenant(call.caller, document.tenant)
    this = {"tenant": tenant, "digest": document.key.digest}
    with call.parts.database.write() as connection:
        connection.alone("key", tenant, document.key.digest)
        row = connection.execute(_OF_KEY, this).first()
        if row is not None and row.digest == statement.digest:
            return _view(row), 200
        previous = None if row is None else _opened(row)
        check_statement(statement, previous, None if previous is None else _earlier(connection, this, previous))
        if row is not None and document.state is not KeyState.DESTROYED and _is_gone(row):
            raise refusal("conflict", "the time of this key's destruction has come: it is destroyed")
        if document.state in _IN_USE:
            require_unrevoked_signer(connection, tenant, statement.signer)
            _check_blob(connection, statement)
        received = _store(connection, statement, first=previous is None)
        before = None if row is None else KeyState(row.state)
        cancelled = _change(
            connection, call.parts.blobs, statement, before=before, after=document.state, received=received
        )
    call.parts.wakeups.wake(QUEUE, *cancelled)
    return _view_of(statement, document.state), 201 if previous is None else 200


@routes.get("/v1/keys", roles={Role.TENANT, Role.READER}, answers={200: KeyList})
def list_keys(call: Call[Account, None]) -> Answer:
    """List the tenant's keys, destroyed ones too."""
    with call.parts.database.read() as connection:
        rows = connection.execute(_OF_TENANT, {"tenant": call.caller.tenant}).all()
    return KeyList(keys=tuple(_view(row) for row in rows))


@routes.get("/v1/keys/<digest>", roles={Role.TENANT, Role.READER}, answers={200: KeyView})
def show_key(call: Call[Account, None], digest: str) -> Answer:
    """Show one key and the last statement about it."""
    with call.parts.database.read() as connection:
        row = connection.execute(_OF_KEY, {"tenant": call.caller.tenant, "digest": digest}).first()
    if row is None:
        raise not_found("key")
    return _view(row)


def relied_on_key(connection: Transaction, tenant: str, digest: str) -> Signed[KeyStatement]:
    """The last statement about a tenant's key, which stays the last until this transaction ends. Raises `NotFoundError`."""
    row = connection.execute(_RELIED_ON, {"tenant": tenant, "digest": digest}).first()
    if row is None:
        raise not_found("key")
    return _opened(row)


def destroy_due(parts: Parts) -> int:
    """Carry out the destructions whose time has come. Gives how many keys were destroyed."""
    with parts.database.read() as connection:
        due = connection.execute(_DUE).all()
    return sum(_destroy(parts, row.tenant, row.digest) for row in due)


def _destroy(parts: Parts, tenant: str, digest: str) -> bool:
    with parts.database.write() as connection:
        connection.alone("key", tenant, digest)
        row = connection.execute(_OF_KEY, {"tenant": tenant, "digest": digest}).first()
        if connection.execute(_CARRY_OUT, {"of_tenant": tenant, "of_digest": digest}).rowcount != 1:
            return False  # called off, or destroyed by another gateway
        statement = _opened(row)
        before, after = statement.document.state, KeyState.DESTROYED
        cancelled = _change(connection, parts.blobs, statement, before=before, after=after)
    log.info("key.destroyed", tenant=tenant, key=digest, statement=statement.digest)
    parts.wakeups.wake(QUEUE, *cancelled)
    return True


def _change(  # noqa: PLR0913  (a step, and whence it came)
    connection: Transaction,
    blobs: Blobs,
    statement: Signed[KeyStatement],
    *,
    before: KeyState | None,
    after: KeyState,
    received: Millis | None = None,
) -> list[str]:
    """Do what follows from a key's step from one state to the next, on the ground of `statement`. Gives the jobs that it cancels.

    Every step of every key comes by here, in the transaction that stores it: `before` is `None` for a new key, and two states that
    are the same are no step (`destroyed` is signed after the destruction was carried out). `received` is when the statement came,
    where it comes now.
    """
    tenant, digest = statement.document.tenant, statement.document.key.digest
    cancelled: list[str] = []
    _tell(connection, statement, before=before, after=after, received=received)
    if (before in HOLDING) != (after in HOLDING):
        hold_jobs_under(connection, tenant, digest, held=after in HOLDING)
    if after in _CANCELLING:
        cancelled = cancel_jobs_under(connection, tenant, digest, why=_CANCELLING[after])
    if after is KeyState.DESTROYED:
        forget_blob(connection, tenant, digest)
        end_uploads_of(connection, tenant, digest)
        # Before the transaction ends: if the store cannot do it now, nothing was destroyed, and the owner is told so.
        blobs.purge(tenant, digest)
    return cancelled


def _tell(
    connection: Transaction,
    statement: Signed[KeyStatement],
    *,
    before: KeyState | None,
    after: KeyState,
    received: Millis | None,
) -> None:
    """Tell the log of a step. What the gateway carries out by itself is told on the ground of the statement that asked for it."""
    document, what = statement.document, key_object(statement.document.key.digest)
    signed = Actor(statement.signer, "client") if after is document.state else GATEWAY
    if before is None:
        size = {"size": str(document.key.size)}
        tell(
            connection,
            Action.KEY_UPLOADED,
            what,
            by=signed,
            tenant=document.tenant,
            digest=document.key.digest,
            details=size,
        )
    details = {"client": statement.signer, "sequence": str(document.sequence)}
    if received is not None:
        details["received"] = str(received)
    if document.previous is not None:
        details["previous"] = document.previous
    if document.successor is not None and after is document.state:
        details["successor"] = document.successor
    if after is KeyState.DESTROYED:
        details["blob"] = "purged"
    resumed = after is KeyState.ACTIVE and before not in {None, KeyState.REGISTERED}
    tell(
        connection,
        Action.KEY_RESUMED if resumed else _ACTIONS[after],
        what,
        by=signed,
        tenant=document.tenant,
        digest=statement.digest,
        reason=document.reason,
        before=None if before is None else before.value,
        after=after.value,
        details=details,
    )


def _is_gone(row: Row) -> bool:
    return bool(row.due) or row.state == KeyState.DESTROYED.value


def _earlier(
    connection: Transaction, this: Mapping[str, Any], previous: Signed[KeyStatement]
) -> Signed[KeyStatement] | None:
    """The statement that a schedule followed on: it says where calling that off leads back to."""
    if previous.document.state is not KeyState.DESTRUCTION_SCHEDULED:
        return None
    row = connection.execute(_STATEMENT, {**this, "sequence": previous.document.sequence - 1}).first()
    return None if row is None else _opened(row)


def _check_blob(connection: Transaction, statement: Signed[KeyStatement]) -> None:
    key, tenant = statement.document.key, statement.document.tenant
    size = renewed_size(connection, tenant, key.digest)
    if size is None:
        raise not_found("blob of this key: upload it before the statement")
    if size != key.size:
        raise refusal("digest-mismatch", f"the key's blob has {size} bytes, the statement says {key.size}")


def _store(connection: Transaction, statement: Signed[KeyStatement], *, first: bool) -> Millis:
    """Keep a statement, and what it says of its key. Gives when it came."""
    document = statement.document
    now = {"state": document.state.value, "sequence": document.sequence, "destroy_at": document.destroy_at}
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
    stored = insert(key_statements).values(
        tenant=document.tenant,
        key=document.key.digest,
        sequence=document.sequence,
        digest=statement.digest,
        envelope=statement.envelope.model_dump_json(),
        received=clock(),
    )
    received: Millis = connection.execute(stored.returning(key_statements.c.received)).scalar()
    return received


def _opened(row: Row) -> Signed[KeyStatement]:
    return open_signed(row.envelope.encode(), KeyStatement)


def _view(row: Row) -> KeyView:
    return _view_of(_opened(row), KeyState(row.state))


def _view_of(statement: Signed[KeyStatement], state: KeyState) -> KeyView:
    document = statement.document
    return KeyView(key=document.key, parameters=document.parameters, state=state, statement=statement.envelope)
