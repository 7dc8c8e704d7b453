"""What is stored: a row for each blob of a tenant, and its bytes in that row or in an object.

Small blobs, which come inside a message, lie in their row: they reach the disk with the transaction that needs them, and cost no
fsync of their own. All others are objects (`blobs`). Nobody but this room knows which is which.

A blob that is stored again keeps its row. Bytes that lie in the row stay there; otherwise the row names the object that came last,
whose bytes were just seen, and the one before is collected like any that no row names.

The bytes of a key that its owner destroyed are refused from then on, whoever brings them and however.

Functions that are given a transaction do their part of the caller's.
"""

from typing import Any, BinaryIO, cast

from flask import Response
from sqlalchemy import bindparam, case, delete, exists, func, or_, select, update
from werkzeug.wsgi import wrap_file

from blindgate_gateway import quotas
from blindgate_gateway.blobs import CHUNK
from blindgate_gateway.database import Row, Transaction, clock, prepared, upsert
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.queues import LEASED
from blindgate_gateway.routing import Call
from blindgate_gateway.tables import blobs, corpus_blobs, jobs, keys, manifests, uploads
from blindgate_protocol.canonical import digest as digest_of
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import DIGEST_HEADER
from blindgate_protocol.values import BlobRef, Millis

_THIS = (blobs.c.tenant == bindparam("of_tenant")) & (blobs.c.digest == bindparam("of_digest"))
_FIND = prepared(select(blobs.c.size, blobs.c.object).where(_THIS))
_IN_ROW = prepared(select(blobs.c.data, blobs.c.object).where(_THIS))
_RENEW = prepared(update(blobs).where(_THIS).values(stored=clock()).returning(blobs.c.size))
_STILL = blobs.c.object == bindparam("of_object")
_RENEW_OBJECT = prepared(update(blobs).where(_THIS, _STILL).values(stored=clock()))
_FORGET_OBJECT = prepared(delete(blobs).where(_THIS, _STILL).returning(blobs.c.size))
_ADD = prepared(
    upsert(blobs, lambda statement: statement.values(stored=clock()).on_conflict_do_nothing()),
    "tenant",
    "digest",
    "size",
    "object",
    "data",
)
_AGAIN = prepared(
    update(blobs)
    .where(_THIS)
    .values(
        stored=clock(),
        object=case((func.coalesce(blobs.c.data, bindparam("data")).is_(None), bindparam("object"))),
        data=func.coalesce(blobs.c.data, bindparam("data")),
    )
)
_NAMED = prepared(
    select(
        or_(
            exists().where(blobs.c.object == bindparam("name")),
            # Of one that is complete, it is the blob's, or was until the same bytes came again.
            exists().where(uploads.c.object == bindparam("name"), uploads.c.status == "parts"),
        ).label("named")
    )
)
NEEDED_BY_NOBODY = (
    ~exists().where(jobs.c.tenant == blobs.c.tenant, jobs.c.input_digest == blobs.c.digest),
    ~exists().where(jobs.c.tenant == blobs.c.tenant, LEASED, jobs.c.result_digest == blobs.c.digest),
    ~exists().where(
        keys.c.tenant == blobs.c.tenant, keys.c.digest == blobs.c.digest, keys.c.state != KeyState.DESTROYED.value
    ),
    ~exists().where(
        manifests.c.tenant == blobs.c.tenant,
        or_(manifests.c.client_digest == blobs.c.digest, manifests.c.server_digest == blobs.c.digest),
    ),
    ~exists().where(corpus_blobs.c.tenant == blobs.c.tenant, corpus_blobs.c.digest == blobs.c.digest),
)
"""The conditions under which nothing refers to a blob. Who deletes by them says besides that it was not stored anew meanwhile."""

_FREE = prepared(
    delete(blobs)
    .where(_THIS, blobs.c.stored == bindparam("of_time"), *NEEDED_BY_NOBODY)
    .returning(blobs.c.size, blobs.c.object)
)
_REMOVE = prepared(delete(blobs).where(_THIS).returning(blobs.c.size))
# A key that is being destroyed is waited for; one that is not cannot be until this transaction ends.
_KEY_STATE = prepared(
    select(keys.c.state)
    .where(keys.c.tenant == bindparam("of_tenant"), keys.c.digest == bindparam("of_digest"))
    .with_for_update(read=True)
)


def renewed_size(connection: Transaction, tenant: str, digest: str) -> int | None:
    """How many bytes a tenant's blob has; `None` when there is none. It counts as stored now, and is not swept away."""
    size: int | None = connection.execute(_RENEW, _key(tenant, digest)).scalar()
    return size


def find_data(connection: Transaction, tenant: str, digest: str) -> bytes | None:
    """The bytes of a small blob; `None` for what is an object."""
    data: bytes | None = connection.execute(_IN_ROW, _key(tenant, digest)).scalar()
    return data


def renew(parts: Parts, tenant: str, digest: str) -> int | None:
    """The size of a blob that the tenant has with all its bytes; it counts as stored now.

    The row of one whose bytes somebody deleted is deleted, too.
    """
    row = parts.database.look(_FIND, _key(tenant, digest))
    if row is None:
        return None
    if row.object is None:
        with parts.database.write(durable=False) as connection:
            return renewed_size(connection, tenant, digest)
    this = _key(tenant, digest) | {"of_object": row.object}
    there = parts.blobs.holds(tenant, row.object, row.size)
    with parts.database.write(durable=False) as connection:
        if there:
            return row.size if connection.execute(_RENEW_OBJECT, this).rowcount == 1 else None
        if connection.execute(_FORGET_OBJECT, this).first() is not None:
            quotas.count(connection, tenant, -row.size)
    return None


def keep_object(connection: Transaction, tenant: str, blob: BlobRef, name: str) -> None:
    """Make an object, whose digest was checked, a blob of `tenant`. Raises `GatewayError` for a destroyed key."""
    if _add(connection, tenant, blob, name=name):
        quotas.count(connection, tenant, blob.size)


def keep_data(connection: Transaction, tenant: str, blob: BlobRef, data: bytes) -> bool:
    """Make bytes that passed `check_data` a blob of `tenant`. Whether it is new: then it is the caller's to count.

    Raises `GatewayError` for a destroyed key.
    """
    return _add(connection, tenant, blob, data=data)


def check_data(blob: BlobRef, data: bytes) -> None:
    """Bytes that came inside a message must be those that its signed document names. Raises `GatewayError`."""
    if len(data) != blob.size or digest_of(data) != blob.digest:
        raise refusal("digest-mismatch", f"the {len(data)} bytes that came along are not the document's {blob.digest}")


def check_not_destroyed(connection: Transaction, tenant: str, digest: str) -> None:
    """Refuse what was a key until its owner destroyed it. Raises `GatewayError`."""
    if connection.execute(_KEY_STATE, _key(tenant, digest)).scalar() == KeyState.DESTROYED.value:
        raise refusal("conflict", "these are the bytes of a key that was destroyed")


def is_named(connection: Transaction, name: str) -> bool:
    """Whether an object belongs to a blob or an open upload."""
    return bool(connection.execute(_NAMED, {"name": name}).scalar())


def forget_blob(connection: Transaction, tenant: str, digest: str) -> None:
    """Delete a blob's row. What is an object is the caller's to delete."""
    row = connection.execute(_REMOVE, _key(tenant, digest)).first()
    if row is not None:
        quotas.count(connection, tenant, -row.size)


def free_blob(connection: Transaction, tenant: str, digest: str, stored: Millis) -> tuple[int, str | None] | None:
    """Delete the row of a blob that nothing refers to any more, unless it was stored anew since `stored`.

    Gives its size, which is the caller's to count, and its object, which is the caller's to delete; `None` where it stays.
    """
    row = connection.execute(_FREE, _key(tenant, digest) | {"of_time": stored}).first()
    return None if row is None else (row.size, row.object)


def send_blob(call: Call[Any, Any], tenant: str, digest: str) -> Response:
    """Answer with the bytes of a stored blob, its digest beside them. A file leaves by sendfile. Raises `NotFoundError`."""
    row = call.parts.database.look(_IN_ROW, _key(tenant, digest))
    if row is None:
        what = "blob"
        raise not_found(what)
    response = _object(call, tenant, row) if row.data is None else Response(row.data)
    response.mimetype = "application/octet-stream"
    response.headers[DIGEST_HEADER] = digest
    return response


def _object(call: Call[Any, Any], tenant: str, row: Row) -> Response:
    opened, size = call.parts.blobs.open(tenant, row.object)
    response = Response(wrap_file(call.request.environ, cast("BinaryIO", opened), CHUNK), direct_passthrough=True)
    response.content_length = size
    return response


def _add(
    connection: Transaction, tenant: str, blob: BlobRef, *, name: str | None = None, data: bytes | None = None
) -> bool:
    """Add the row, or say that the one that is there was stored again. Whether it is new."""
    check_not_destroyed(connection, tenant, blob.digest)
    given = {"object": name, "data": data}
    if connection.execute(_ADD, given | {"tenant": tenant, "digest": blob.digest, "size": blob.size}).rowcount == 1:
        return True
    if connection.execute(_AGAIN, given | _key(tenant, blob.digest)).rowcount != 1:
        raise refusal("busy", "the blob was deleted at this moment; try again")
    return False


def _key(tenant: str, digest: str) -> dict[str, str]:
    return {"of_tenant": tenant, "of_digest": digest}
