"""What is stored: a row for each blob of a tenant, and its bytes in that row or in a file.

Small blobs, which come inside a message, lie in their row: they reach the disk with the transaction that needs them, and cost no
fsync of their own. All others are files (`blobs`). Nobody but this room knows which is which.

Functions that are given a transaction do their part of the caller's.
"""

from pathlib import Path
from typing import Any

from flask import Response
from sqlalchemy import bindparam, delete, insert, select, update
from werkzeug.wsgi import wrap_file

from blindgate_gateway.blobs import CHUNK, Blobs
from blindgate_gateway.database import Transaction, clock, prepared
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Call
from blindgate_gateway.tables import blobs
from blindgate_protocol.canonical import digest as digest_of
from blindgate_protocol.messages import DIGEST_HEADER
from blindgate_protocol.values import BlobRef

_THIS = (blobs.c.tenant == bindparam("of_tenant")) & (blobs.c.digest == bindparam("of_digest"))
_SIZE = prepared(select(blobs.c.size, blobs.c.data.is_not(None).label("in_row")).where(_THIS))
_DATA = prepared(select(blobs.c.data).where(_THIS))
_RENEW = prepared(update(blobs).where(_THIS).values(stored=clock()))
_ADD = prepared(insert(blobs).values(stored=clock()), "tenant", "digest", "size", "data")
_REMOVE = prepared(delete(blobs).where(_THIS))


def find_size(connection: Transaction, tenant: str, digest: str) -> int | None:
    """How many bytes a tenant's blob has; `None` when there is no such blob."""
    row = connection.execute(_SIZE, _key(tenant, digest)).first()
    return None if row is None else int(row.size)


def find_data(connection: Transaction, tenant: str, digest: str) -> bytes | None:
    """The bytes of a small blob; `None` for what lies in a file."""
    data: bytes | None = connection.execute(_DATA, _key(tenant, digest)).scalar()
    return data


def renew(connection: Transaction, files: Blobs, tenant: str, digest: str) -> bool:
    """Whether the tenant has this blob with all its bytes. If so it counts as stored now, and is not swept away."""
    row = connection.execute(_SIZE, _key(tenant, digest)).first()
    if row is None or not (row.in_row or files.holds(tenant, digest, row.size)):
        return False
    connection.execute(_RENEW, _key(tenant, digest))
    return True


def keep_file(connection: Transaction, files: Blobs, tenant: str, blob: BlobRef, path: Path) -> None:
    """Make a settled file, whose digest was checked, a blob of `tenant`."""
    if not renew(connection, files, tenant, blob.digest):
        files.keep(path, tenant, blob.digest)
        _add(connection, tenant, blob, None)


def keep_data(connection: Transaction, files: Blobs, tenant: str, blob: BlobRef, data: bytes) -> None:
    """Make bytes that passed `check_data` a blob of `tenant`."""
    if not renew(connection, files, tenant, blob.digest):
        _add(connection, tenant, blob, data)


def check_data(blob: BlobRef, data: bytes) -> None:
    """Bytes that came inside a message must be those that its signed document names. Raises `GatewayError`."""
    if len(data) != blob.size or digest_of(data) != blob.digest:
        raise refusal("digest-mismatch", f"the {len(data)} bytes that came along are not the document's {blob.digest}")


def remove_blob(connection: Transaction, files: Blobs, tenant: str, digest: str) -> None:
    """Delete a blob, row and bytes."""
    connection.execute(_REMOVE, _key(tenant, digest))
    files.remove(tenant, digest)


def send_blob(call: Call[Any, Any], tenant: str, digest: str) -> Response:
    """Answer with the bytes of a stored blob, its digest beside them. A file leaves by sendfile. Raises `NotFoundError`."""
    row = call.parts.database.look(_DATA, _key(tenant, digest))
    if row is None:
        raise not_found("blob")
    response = _file(call, tenant, digest) if row.data is None else Response(row.data)
    response.mimetype = "application/octet-stream"
    response.headers[DIGEST_HEADER] = digest
    return response


def _file(call: Call[Any, Any], tenant: str, digest: str) -> Response:
    file = call.parts.blobs.open(tenant, digest)
    size = file.seek(0, 2)
    file.seek(0)
    response = Response(wrap_file(call.request.environ, file, CHUNK), direct_passthrough=True)
    response.content_length = size
    return response


def _add(connection: Transaction, tenant: str, blob: BlobRef, data: bytes | None) -> None:
    connection.execute(_REMOVE, _key(tenant, blob.digest))  # a row whose file somebody has deleted
    connection.execute(_ADD, {"tenant": tenant, "digest": blob.digest, "size": blob.size, "data": data})


def _key(tenant: str, digest: str) -> dict[str, str]:
    return {"of_tenant": tenant, "of_digest": digest}
