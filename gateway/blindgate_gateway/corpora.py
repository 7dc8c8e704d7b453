"""Corpora: sealed indexes that their owners keep here, each a name for a head and the blobs that it needs.

    PUT    /v1/corpora/{corpus} {head, shards, instead_of}      all blobs were uploaded before
    GET    /v1/corpora, /v1/corpora/{corpus}                    which head there is
    GET    /v1/corpora/{corpus}/blobs/{digest}                  the head, or a shard of the present head
    DELETE /v1/corpora/{corpus}

The gateway cannot read any of it: what a head says of its shards is sealed, and its owner says beside it which blobs they are. So
nothing here is vouched for. Whoever reads checks that it is what was put, and no older (`blindgate_rag.sync`). What holds:

1. a head is put in place of the one that its owner names, or where there is none: of two at once, one is refused (409
   `corpus-changed`), and nothing of it counts. The same head again changes nothing;
2. a head is taken only if the tenant has all of its blobs, with these sizes;
3. what the present head needs is kept, however old it is (`sweep`);
4. what no head needs any more, nor anything else, is deleted before the answer: a shard that is replaced may hold a document that
   its owner removed. Whoever was reading the old head finds a blob gone, and begins again with the new one. What the store cannot
   delete at this moment is a stray from now on (`sweep`): what was asked for is done, and asked again it would be refused;
5. blobs count under the tenant's quota as they come and go; the log is told sizes and counts, and of names nothing.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select, update

from blindgate_gateway import quotas
from blindgate_gateway.database import Row, Transaction, clock, prepared
from blindgate_gateway.identity import Account, Role
from blindgate_gateway.log.objects import corpus_object
from blindgate_gateway.log.telling import tell, tenant_actor
from blindgate_gateway.logs import log
from blindgate_gateway.parts import Parts
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.stored import free_blob, renewed_size, send_blob
from blindgate_gateway.tables import blobs, corpora, corpus_blobs
from blindgate_protocol.errors import GatewayError, MalformedError
from blindgate_protocol.events import Action
from blindgate_protocol.messages import CorpusList, CorpusRequest, CorpusView
from blindgate_protocol.values import NAME, BlobRef

routes = Routes("corpora")

MOST: Final = 100
"""How many corpora a tenant has at most."""
_READERS: Final = {Role.TENANT, Role.READER}

_SHOWN = (
    select(
        corpora.c.id,
        corpora.c.name,
        corpora.c.head,
        corpus_blobs.c.size,
        corpora.c.blobs,
        corpora.c.bytes,
        corpora.c.changed,
    )
    .join(
        corpus_blobs,
        (corpus_blobs.c.tenant == corpora.c.tenant)
        & (corpus_blobs.c.name == corpora.c.name)
        & (corpus_blobs.c.digest == corpora.c.head),
    )
    .order_by(corpora.c.name)
)
_OF_TENANT = prepared(_SHOWN.where(corpora.c.tenant == bindparam("tenant")))
_CORPUS = prepared(_SHOWN.where(corpora.c.tenant == bindparam("tenant"), corpora.c.name == bindparam("name")))
_COUNT = prepared(select(func.count()).where(corpora.c.tenant == bindparam("tenant")))
_NEEDED = (corpus_blobs.c.tenant == bindparam("of_tenant")) & (corpus_blobs.c.name == bindparam("of_name"))
_BLOBS = prepared(
    select(corpus_blobs.c.digest, corpus_blobs.c.size, blobs.c.stored)
    .outerjoin(blobs, (blobs.c.tenant == corpus_blobs.c.tenant) & (blobs.c.digest == corpus_blobs.c.digest))
    .where(_NEEDED)
)
_BLOB = prepared(select(corpus_blobs.c.digest).where(_NEEDED, corpus_blobs.c.digest == bindparam("of_digest")))
_NEED = prepared(insert(corpus_blobs), "tenant", "name", "digest", "size")
_NEED_NOT = prepared(delete(corpus_blobs).where(_NEEDED, corpus_blobs.c.digest == bindparam("of_digest")))
_NEED_NOTHING = prepared(delete(corpus_blobs).where(_NEEDED))
_MAKE = prepared(insert(corpora).values(changed=clock()), "tenant", "name", "id", "head", "blobs", "bytes")
_THIS = (corpora.c.tenant == bindparam("of_tenant")) & (corpora.c.name == bindparam("of_name"))
_MOVE = prepared(
    update(corpora)
    .where(_THIS)
    .values(head=bindparam("head"), blobs=bindparam("blobs"), bytes=bindparam("bytes"), changed=clock())
)
_FORGET = prepared(delete(corpora).where(_THIS))


@routes.put("/v1/corpora/<corpus>", roles={Role.TENANT}, body=CorpusRequest, answers={200: CorpusView, 201: CorpusView})
def put_corpus(call: Call[Account, CorpusRequest], corpus: str) -> Answer:
    """Put a head in place of another, or the first one. Its blobs were uploaded before.

    409 `corpus-changed` where there is another head by now than the one to be replaced.
    """
    _check_name(corpus)
    parts, wanted, tenant = call.parts, call.body, call.caller.tenant
    needed = _needed(wanted)
    this, of_this = {"tenant": tenant, "name": corpus}, _key(tenant, corpus)
    with parts.database.write() as connection:
        connection.alone("corpora", tenant)
        row = connection.execute(_CORPUS, this).first()
        if row is not None and row.head == wanted.head.digest:
            return _view(row), 200
        # 1.
        _check_replaced(row, wanted)
        if row is None and connection.execute(_COUNT, {"tenant": tenant}).scalar() >= MOST:
            raise refusal("quota", f"a tenant has at most {MOST} corpora here", retry_after=quotas.AGAIN_SECONDS)
        # 2.
        before = {one.digest: one for one in connection.execute(_BLOBS, of_this).all()}
        _check_there(connection, tenant, needed, before)
        # 3.
        now = {"head": wanted.head.digest, "blobs": len(needed), "bytes": sum(needed.values())}
        if row is None:
            connection.execute(_MAKE, this | now | {"id": secrets.token_hex(16)})
        else:
            connection.execute(_MOVE, of_this | now)
        for digest in needed.keys() - before.keys():
            connection.execute(_NEED, this | {"digest": digest, "size": needed[digest]})
        gone = [one for one in before.values() if one.digest not in needed]
        for one in gone:
            connection.execute(_NEED_NOT, of_this | {"of_digest": one.digest})
        made = connection.execute(_CORPUS, this).one()
        _tell(connection, Action.CORPUS_STORED, tenant, made, before=None if row is None else "stored", after="stored")
        # 4., 5.
        freed = _free(connection, tenant, gone)
    _remove(parts, tenant, freed)
    return _view(made), 201 if row is None else 200


@routes.get("/v1/corpora", roles=_READERS, answers={200: CorpusList})
def list_corpora(call: Call[Account, None]) -> Answer:
    """List the tenant's corpora."""
    with call.parts.database.read() as connection:
        rows = connection.execute(_OF_TENANT, {"tenant": call.caller.tenant}).all()
    return CorpusList(corpora=tuple(_view(row) for row in rows))


@routes.get("/v1/corpora/<corpus>", roles=_READERS, answers={200: CorpusView})
def show_corpus(call: Call[Account, None], corpus: str) -> Answer:
    """Say which head a corpus has now."""
    row = call.parts.database.look(_CORPUS, {"tenant": call.caller.tenant, "name": corpus})
    if row is None:
        raise not_found("corpus")
    return _view(row)


@routes.get("/v1/corpora/<corpus>/blobs/<digest>", roles=_READERS, answers={200: Raw()})
def download_corpus_blob(call: Call[Account, None], corpus: str, digest: str) -> Answer:
    """Give the head's bytes, or those of a shard that it needs."""
    tenant = call.caller.tenant
    if call.parts.database.look(_BLOB, _key(tenant, corpus) | {"of_digest": digest}) is None:
        raise not_found("blob of this corpus")
    return send_blob(call, tenant, digest)


@routes.delete("/v1/corpora/<corpus>", roles={Role.TENANT}, answers={204: None})
def delete_corpus(call: Call[Account, None], corpus: str) -> Answer:
    """Delete a corpus: its name, its head, and every blob that nothing else needs."""
    parts, tenant = call.parts, call.caller.tenant
    this, of_this = {"tenant": tenant, "name": corpus}, _key(tenant, corpus)
    with parts.database.write() as connection:
        connection.alone("corpora", tenant)
        row = connection.execute(_CORPUS, this).first()
        if row is None:
            raise not_found("corpus")
        gone = connection.execute(_BLOBS, of_this).all()
        connection.execute(_NEED_NOTHING, of_this)
        connection.execute(_FORGET, of_this)
        _tell(connection, Action.CORPUS_DELETED, tenant, row, before="stored", after="deleted")
        freed = _free(connection, tenant, gone)
    _remove(parts, tenant, freed)
    return None


def _check_name(corpus: str) -> None:
    if not re.fullmatch(NAME, corpus):
        message = "a corpus's name has 1 to 64 characters: a to z, 0 to 9, and dots, dashes and underscores inside"
        raise MalformedError(message)


def _needed(wanted: CorpusRequest) -> dict[str, int]:
    """The sizes of all blobs that a head needs, by digest."""
    needed: dict[str, int] = {}
    for ref in (wanted.head, *wanted.shards):
        if needed.setdefault(ref.digest, ref.size) != ref.size:
            raise refusal("digest-mismatch", f"one blob cannot have {needed[ref.digest]} and {ref.size} bytes")
    return needed


def _check_replaced(row: Row | None, wanted: CorpusRequest) -> None:
    if row is None and wanted.instead_of is not None:
        raise not_found("corpus")
    if row is not None and row.head != wanted.instead_of:
        raise refusal("corpus-changed", "the corpus has another head by now: fetch it, and put yours in place of that")


def _check_there(connection: Transaction, tenant: str, needed: Mapping[str, int], before: Mapping[str, Row]) -> None:
    """Every blob is the tenant's. One that no head needed before counts as stored now, so that no sweep takes it meanwhile."""
    for digest, size in needed.items():
        known = before.get(digest)
        if known is not None and known.stored is not None:
            found: int | None = known.size
        else:
            found = renewed_size(connection, tenant, digest)
        if found is None:
            raise not_found(f"blob of this corpus: upload {digest} before the head")
        if found != size:
            raise refusal("digest-mismatch", f"the blob {digest} has {found} bytes, and {size} were said")


def _free(connection: Transaction, tenant: str, gone: Iterable[Row]) -> list[str]:
    """Delete the rows of blobs that nothing needs any more. Gives their objects, to be deleted once that is certain."""
    freed = [
        found
        for one in gone
        if one.stored is not None and (found := free_blob(connection, tenant, one.digest, one.stored)) is not None
    ]
    if freed:
        quotas.count(connection, tenant, -sum(size for size, _ in freed))
    return [name for _, name in freed if name is not None]


def _remove(parts: Parts, tenant: str, objects: Iterable[str]) -> None:
    for name in objects:
        try:
            parts.blobs.remove(tenant, name)
        except GatewayError as error:
            log.warning("corpora.left_to_sweep", tenant=tenant, object=name, error=str(error))


def _tell(  # noqa: PLR0913  (what an event is made of)
    connection: Transaction, action: Action, tenant: str, row: Row, *, before: str | None, after: str
) -> None:
    tell(
        connection,
        action,
        corpus_object(row.id),
        by=tenant_actor(connection, tenant),
        tenant=tenant,
        before=before,
        after=after,
        details={"blobs": str(row.blobs), "bytes": str(row.bytes)},
    )


def _view(row: Row) -> CorpusView:
    return CorpusView(
        name=row.name,
        head=BlobRef(digest=row.head, size=row.size),
        shards=row.blobs - 1,
        size=row.bytes,
        changed=row.changed,
    )


def _key(tenant: str, corpus: str) -> dict[str, str]:
    return {"of_tenant": tenant, "of_name": corpus}
