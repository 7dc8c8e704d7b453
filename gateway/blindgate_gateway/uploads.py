"""Blobs come in: asked for by size and digest, sent in parts, kept once per tenant.

    POST /v1/uploads {size, sha256}      exists: nothing to send | parts: send these
    PUT  /v1/uploads/{id}/parts/{n}      the raw bytes of one part
    GET  /v1/uploads/{id}                what is still missing, also after either side restarted
    POST /v1/uploads/{id}/complete       all parts were sent, some of them straight to the store

What holds:

1. a part that was answered is stored, and an upload that was answered `complete` is a stored blob;
2. bytes reach the store as they come; no part is held in memory whole;
3. the same request twice is the same upload; the same part twice is the same part;
4. a blob is shared inside one tenant and invisible to others: asking for another tenant's bytes says `parts`;
5. bytes that are not those announced end the upload, and nothing of them is kept;
6. what an upload will need is reserved when it is asked for (`quotas`).

An upload of one part is an object when that came. The parts of a larger one are the store's until all are there, by whichever way;
then they become an object, the object is read once, and its digest decides whether it gets a row. A gateway that is killed in
between forgets nothing: whoever asks next goes on from what the store says.
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import bindparam, delete, select, update

from blindgate_gateway import quotas
from blindgate_gateway.blobs import Parted, chunks, digest_of
from blindgate_gateway.database import Row, Transaction, clock, prepared, upsert
from blindgate_gateway.identity import Account, Role
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.stored import check_not_destroyed, is_named, keep_object, renew
from blindgate_gateway.tables import uploads
from blindgate_protocol.errors import BlindgateError, GatewayError, NotFoundError
from blindgate_protocol.messages import MOST_URLS, Upload, UploadRequest
from blindgate_protocol.values import BlobRef

routes = Routes("uploads")
_CALLERS = {Role.TENANT, Role.PUBLISHER}

_OF_BLOB = prepared(
    select(uploads).where(uploads.c.tenant == bindparam("tenant"), uploads.c.digest == bindparam("digest"))
)
_UPLOAD = prepared(select(uploads).where(uploads.c.tenant == bindparam("tenant"), uploads.c.id == bindparam("id")))
_ASK = prepared(
    upsert(uploads, lambda statement: statement.values(status="parts", created=clock()).on_conflict_do_nothing()),
    "id",
    "tenant",
    "digest",
    "size",
    "part",
    "object",
    "multipart",
)
_THIS = uploads.c.id == bindparam("upload")
_OPEN = uploads.c.status == "parts"
_COMPLETE = prepared(update(uploads).where(_THIS, _OPEN).values(status="complete"))
_END = prepared(delete(uploads).where(_THIS, _OPEN))
_FORGET = prepared(delete(uploads).where(_THIS, uploads.c.status == "complete"))
_END_ALL = prepared(
    delete(uploads)
    .where(uploads.c.tenant == bindparam("of_tenant"), uploads.c.digest == bindparam("of_digest"))
    .returning(uploads.c.size, uploads.c.status)
)


class _Turns:
    """One at a time by name, in this process: two last parts at once need not both read the whole."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[str, int] = {}
        self._locks: dict[str, threading.Lock] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        with self._guard:
            self._waiting[name] = self._waiting.get(name, 0) + 1
            lock = self._locks.setdefault(name, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._guard:
                self._waiting[name] -= 1
                if not self._waiting[name]:
                    del self._waiting[name], self._locks[name]


_turns = _Turns()


@routes.post("/v1/uploads", roles=_CALLERS, body=UploadRequest, answers={201: Upload, 200: Upload})
def request_upload(call: Call[Account, UploadRequest]) -> Answer:
    """Ask to store a blob under the caller's tenant.

    Answers `exists` when the tenant has it, or which parts to send. 429 beyond the tenant's quota.
    """
    parts, wanted, tenant = call.parts, call.body, call.caller.tenant
    if wanted.size > parts.settings.max_blob:
        raise refusal("too-large", f"a blob of {wanted.size} bytes: at most {parts.settings.max_blob} are taken here")
    size = renew(parts, tenant, wanted.sha256)
    if size is not None:
        if size != wanted.size:
            raise refusal("digest-mismatch", f"the blob of this digest has {size} bytes, not {wanted.size}")
        return Upload(status="exists"), 200
    row = parts.database.look(_OF_BLOB, {"tenant": tenant, "digest": wanted.sha256})
    if row is not None:
        if row.status == "parts" and row.size == wanted.size:
            try:
                return _stand(parts, row), 200
            except NotFoundError:
                pass  # the store has forgotten it
        end_upload(parts, row)
    return _begin(parts, tenant, wanted)


def _begin(parts: Parts, tenant: str, wanted: UploadRequest) -> Answer:
    size, part, fresh = wanted.size, parts.settings.part, secrets.token_hex(16)
    name, multipart = parts.blobs.begin(tenant, wanted.sha256) if size > part else (None, None)
    asked = {"id": fresh, "size": size, "part": part, "object": name, "multipart": multipart}
    asked |= {"tenant": tenant, "digest": wanted.sha256}
    try:
        # Not durable: an upload that a power failure makes forgotten is asked for again.
        with parts.database.write(durable=False) as connection:
            check_not_destroyed(connection, tenant, wanted.sha256)
            is_new = connection.execute(_ASK, asked).rowcount == 1
            if is_new:
                quotas.reserve(connection, tenant, size, default=parts.settings.quota)
            row = connection.execute(_OF_BLOB, {"tenant": tenant, "digest": wanted.sha256}).one()
    except BlindgateError:
        if name is not None:
            parts.blobs.end(Parted(tenant, size, part, name, multipart))
        raise
    if not is_new and name is not None:
        parts.blobs.end(Parted(tenant, size, part, name, multipart))
    return _stand(parts, row, is_new=is_new), 201 if is_new else 200


@routes.get("/v1/uploads/<upload>", roles=_CALLERS, answers={200: Upload})
def show_upload(call: Call[Account, None], upload: str) -> Answer:
    """Say which parts of an upload are missing, as the store knows."""
    return _stand(call.parts, _find(call, upload))


@routes.put("/v1/uploads/<upload>/parts/<int:number>", roles=_CALLERS, body=Raw(), answers={200: Upload})
def put_part(call: Call[Account, None], upload: str, number: int) -> Answer:
    """Send one part, as raw bytes of exactly its length.

    The last missing part stores the blob and answers `complete`. Bytes of another digest than announced end the upload.
    """
    parts, row = call.parts, _find(call, upload)
    if not 1 <= number <= _count(row):
        raise not_found(f"part of this upload: {number}")
    expected = min(row.part, row.size - (number - 1) * row.part)
    length = call.length(expected)
    if length != expected:
        raise refusal("digest-mismatch", f"part {number} has {expected} bytes, got {length}")
    if row.status == "complete":
        for _ in chunks(call.request.stream, length):
            pass
        return _stand(parts, row)
    if row.object is None:
        return _take_whole(call, row)
    parts.blobs.take(_parted(row), number, call.request.stream)
    return _completed(parts, row)


@routes.post("/v1/uploads/<upload>/complete", roles=_CALLERS, answers={200: Upload})
def complete_upload(call: Call[Account, None], upload: str) -> Answer:
    """Say that every part was sent. Answers `complete`, or which parts the store has not.

    Bytes of another digest than announced end the upload.
    """
    row = _find(call, upload)
    return _stand(call.parts, row) if row.status == "complete" or row.object is None else _completed(call.parts, row)


def end_upload(parts: Parts, row: Row) -> None:
    """Forget an upload, unless it was completed meanwhile, and drop what came of it."""
    with parts.database.write(durable=False) as connection:
        if row.status == "complete":
            connection.execute(_FORGET, {"upload": row.id})
            return
        ended = connection.execute(_END, {"upload": row.id}).rowcount == 1
        if ended:
            quotas.count(connection, row.tenant, -row.size)
    if ended and row.object is not None:
        parts.blobs.end(_parted(row))


def end_uploads_of(connection: Transaction, tenant: str, digest: str) -> None:
    """Forget every upload of a blob. What came of them is the caller's to delete."""
    for row in connection.execute(_END_ALL, {"of_tenant": tenant, "of_digest": digest}).all():
        if row.status == "parts":
            quotas.count(connection, tenant, -row.size)


def _take_whole(call: Call[Account, None], row: Row) -> Upload:
    with call.parts.blobs.incoming(row.tenant, row.digest) as incoming:
        incoming.fill(call.request.stream, row.size)
        if incoming.digest != row.digest:
            raise _mismatch(call.parts, row)
        return _keep(call.parts, row, incoming.settle())


def _completed(parts: Parts, row: Row) -> Upload:
    if parts.blobs.arrived(_parted(row)) != _parted(row).whole():
        return _stand(parts, row)
    with _turns.turn(row.id):
        now = parts.database.look(_UPLOAD, {"tenant": row.tenant, "id": row.id})
        if now is None:
            raise _gone()
        return _stand(parts, now) if now.status == "complete" else _complete(parts, row)


def _complete(parts: Parts, row: Row) -> Upload:
    upload = _parted(row)
    parts.blobs.finish(upload)
    opened, _ = parts.blobs.open(row.tenant, row.object)
    if digest_of(opened) != row.digest:
        raise _mismatch(parts, row)
    try:
        return _keep(parts, row, row.object)
    except NotFoundError:
        # Whoever ended the upload may have done so before the store had made the object.
        with parts.database.read() as connection:
            is_nobodys = not is_named(connection, row.object)
        if is_nobodys:
            parts.blobs.end(upload)
        raise


def _keep(parts: Parts, row: Row, name: str) -> Upload:
    """The object gets its row, and what was reserved is counted as stored. If another was quicker, its word holds."""
    with parts.database.write() as connection:
        if connection.execute(_COMPLETE, {"upload": row.id}).rowcount == 1:
            quotas.count(connection, row.tenant, -row.size)
            keep_object(connection, row.tenant, BlobRef(digest=row.digest, size=row.size), name)
        elif connection.execute(_UPLOAD, {"tenant": row.tenant, "id": row.id}).first() is None:
            raise _gone()
    return Upload(status="complete", upload=row.id, part_size=row.part)


def _mismatch(parts: Parts, row: Row) -> GatewayError:
    end_upload(parts, row)
    return refusal("digest-mismatch", "the bytes that came are not those that were announced; the upload has ended")


def _find(call: Call[Account, None], upload: str) -> Row:
    row = call.parts.database.look(_UPLOAD, {"tenant": call.caller.tenant, "id": upload})
    if row is None:
        raise _gone()
    return row


def _gone() -> NotFoundError:
    return not_found("upload")


def _stand(parts: Parts, row: Row, *, is_new: bool = False) -> Upload:
    if row.status == "complete":
        return Upload(status="complete", upload=row.id, part_size=row.part)
    arrived, urls = frozenset[int](), tuple[str, ...]()
    if row.object is not None and not is_new:
        arrived = parts.blobs.arrived(_parted(row))
    missing = tuple(number for number in range(1, _count(row) + 1) if number not in arrived)
    if row.object is not None:
        urls = parts.blobs.urls(_parted(row), missing[:MOST_URLS])
    return Upload(status="parts", upload=row.id, part_size=row.part, missing=missing, urls=urls)


def _parted(row: Row) -> Parted:
    return Parted(row.tenant, row.size, row.part, row.object, row.multipart)


def _count(row: Row) -> int:
    return -(-int(row.size) // int(row.part))
