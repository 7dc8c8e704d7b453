"""Blobs come in: asked for by size and digest, sent in parts, kept once per tenant.

    POST /v1/uploads {size, sha256}      exists: nothing to send | parts: send these
    PUT  /v1/uploads/{id}/parts/{n}      the raw bytes of one part
    GET  /v1/uploads/{id}                what is still missing, also after either side restarted

What holds:

1. a part that was answered is on the disk, and an upload that was answered `complete` is a stored blob;
2. bytes reach the disk as they come; no part is held in memory whole;
3. the same request twice is the same upload; the same part twice is the same part;
4. a blob is shared inside one tenant and invisible to others: asking for another tenant's bytes says `parts`;
5. bytes that are not those announced end the upload, and nothing of them is kept.

Only the last missing part makes a blob, in one transaction with its own arrival. A killed gateway forgets nothing it answered.
"""

import secrets

from sqlalchemy import bindparam, delete, insert, select, update

from blindgate_gateway import partial
from blindgate_gateway.blobs import Incoming
from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.identity import Account, Role
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.stored import find_size, keep_file, renew
from blindgate_gateway.tables import upload_parts, uploads
from blindgate_protocol.errors import GatewayError, NotFoundError
from blindgate_protocol.messages import Upload, UploadRequest
from blindgate_protocol.values import BlobRef

routes = Routes("uploads")
_CALLERS = {Role.TENANT, Role.PUBLISHER}

_OPEN = prepared(
    select(uploads).where(uploads.c.tenant == bindparam("tenant"), uploads.c.digest == bindparam("digest"))
)
_UPLOAD = prepared(select(uploads).where(uploads.c.tenant == bindparam("tenant"), uploads.c.id == bindparam("id")))
_ARRIVED = prepared(select(upload_parts.c.number).where(upload_parts.c.upload == bindparam("id")))
_ASK = prepared(insert(uploads).values(status="parts", created=clock()), "id", "tenant", "digest", "size", "part")
_COMPLETE = prepared(update(uploads).where(uploads.c.id == bindparam("upload")).values(status="complete"))


@routes.post("/v1/uploads", roles=_CALLERS, body=UploadRequest, answers={201: Upload, 200: Upload})
def request_upload(call: Call[Account, UploadRequest]) -> Answer:
    """Ask to store a blob under the caller's tenant.

    Answers `exists` when the tenant has it, or which parts to send.
    """
    parts, wanted, tenant = call.parts, call.body, call.caller.tenant
    if wanted.size > parts.settings.max_blob:
        raise refusal("too-large", f"a blob of {wanted.size} bytes: at most {parts.settings.max_blob} are taken here")
    key, fresh = {"tenant": tenant, "digest": wanted.sha256}, secrets.token_hex(16)
    # Not durable: an upload that a power failure makes forgotten is asked for again.
    with parts.database.write(durable=False) as connection:
        if renew(connection, parts.blobs, tenant, wanted.sha256):
            size = find_size(connection, tenant, wanted.sha256)
            if size != wanted.size:
                raise refusal("digest-mismatch", f"the blob of this digest has {size} bytes, not {wanted.size}")
            return Upload(status="exists"), 200
        upload = connection.execute(_OPEN, key).first()
        if upload is not None and upload.status == "parts" and upload.size == wanted.size:
            return _stand(connection, upload), 200
        if upload is not None:
            connection.execute(delete(uploads).where(uploads.c.id == upload.id))
            partial.forget(parts.blobs.partial / upload.id)
        connection.execute(_ASK, {**key, "id": fresh, "size": wanted.size, "part": parts.settings.part})
    missing = tuple(range(1, _count(wanted.size, parts.settings.part) + 1))
    return Upload(status="parts", upload=fresh, part_size=parts.settings.part, missing=missing)


@routes.get("/v1/uploads/<upload>", roles=_CALLERS, answers={200: Upload})
def show_upload(call: Call[Account, None], upload: str) -> Answer:
    """Say which parts of an upload are missing."""
    with call.parts.database.read() as connection:
        return _stand(connection, _find(connection, call.caller.tenant, upload))


@routes.put("/v1/uploads/<upload>/parts/<int:number>", roles=_CALLERS, body=Raw(), answers={200: Upload})
def put_part(call: Call[Account, None], upload: str, number: int) -> Answer:
    """Send one part, as raw bytes of exactly its length.

    The last missing part stores the blob and answers `complete`. Bytes of another digest than announced end the upload.
    """
    with call.parts.database.read() as connection:
        row = _find(connection, call.caller.tenant, upload)
        standing = _stand(connection, row)
    if not 1 <= number <= _count(row.size, row.part):
        raise not_found(f"part of this upload: {number}")
    expected = min(row.part, row.size - (number - 1) * row.part)
    length = call.length(expected)
    if length != expected:
        raise refusal("digest-mismatch", f"part {number} has {expected} bytes, got {length}")
    with call.parts.blobs.incoming() as incoming:
        single = row.size <= row.part
        incoming.fill(call.request.stream, length, hashing=single)
        if number not in standing.missing:
            return standing
        if single:
            incoming.settle()
            return _store(call.parts, row, incoming)
        return _place(call.parts, row, number, incoming)


def _store(parts: Parts, row: Row, incoming: Incoming) -> Upload:
    if incoming.digest != row.digest:
        raise _mismatch(parts, row)
    with parts.database.write() as connection:
        keep_file(connection, parts.blobs, row.tenant, _blob(row), incoming.path)
        connection.execute(_COMPLETE, {"upload": row.id})
    return Upload(status="complete", upload=row.id, part_size=row.part)


def _place(parts: Parts, row: Row, number: int, incoming: Incoming) -> Upload:
    path = parts.blobs.partial / row.id
    try:
        with partial.locked(path) as descriptor:
            return _place_alone(parts, row, number, incoming, descriptor)
    except NotFoundError:
        partial.forget(path)  # the upload ended meanwhile, and nobody will look for its file again
        raise


def _place_alone(parts: Parts, row: Row, number: int, incoming: Incoming, descriptor: int) -> Upload:
    path = parts.blobs.partial / row.id
    with parts.database.read() as connection:
        standing = _stand(connection, _find(connection, row.tenant, row.id))
    if number not in standing.missing:
        return standing
    partial.place(descriptor, incoming.path, at=(number - 1) * row.part)
    missing = tuple(other for other in standing.missing if other != number)
    arrived = set(range(1, _count(row.size, row.part) + 1)) - set(missing)
    prefix = partial.whole_prefix(arrived, part=row.part, size=row.size)
    digest = partial.follow(path, descriptor, to=prefix)
    if missing:
        with parts.database.write() as connection:
            _find(connection, row.tenant, row.id)
            connection.execute(insert(upload_parts).values(upload=row.id, number=number))
        return Upload(status="parts", upload=row.id, part_size=row.part, missing=missing)
    if digest != row.digest:
        raise _mismatch(parts, row)
    with parts.database.write() as connection:
        keep_file(connection, parts.blobs, row.tenant, _blob(row), path)
        connection.execute(delete(upload_parts).where(upload_parts.c.upload == row.id))
        connection.execute(_COMPLETE, {"upload": row.id})
    partial.forget(path)
    return Upload(status="complete", upload=row.id, part_size=row.part)


def _mismatch(parts: Parts, row: Row) -> GatewayError:
    with parts.database.write() as connection:
        connection.execute(delete(uploads).where(uploads.c.id == row.id, uploads.c.status == "parts"))
    partial.forget(parts.blobs.partial / row.id)
    return refusal("digest-mismatch", "the bytes that came are not those that were announced; the upload has ended")


def _find(connection: Transaction, tenant: str, upload: str) -> Row:
    row = connection.execute(_UPLOAD, {"tenant": tenant, "id": upload}).first()
    if row is None:
        raise not_found("upload")
    return row


def _stand(connection: Transaction, row: Row) -> Upload:
    if row.status == "complete":
        return Upload(status="complete", upload=row.id, part_size=row.part)
    count = _count(row.size, row.part)
    arrived = set(connection.execute(_ARRIVED, {"id": row.id}).scalars()) if count > 1 else set()
    missing = tuple(number for number in range(1, count + 1) if number not in arrived)
    return Upload(status="parts", upload=row.id, part_size=row.part, missing=missing)


def _blob(row: Row) -> BlobRef:
    return BlobRef(digest=row.digest, size=row.size)


def _count(size: int, part: int) -> int:
    return -(-size // part)
