"""The models that this gateway brokers: manifests, as their publishers signed them.

A publisher uploads both parts of a package like any blobs and then offers the signed manifest. It is taken in when

1. its signer is among the settings' publishers, its time has come and not passed;
2. both parts are stored under the publisher's tenant, with the sizes that it names;
3. its version is above every version that was offered under its name.

Every tenant may read manifests and client parts. The server part leaves only to a node that holds a lease (`leases`).
The gateway vouches for nothing here: clients check the publisher's signature and the version themselves.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, insert, select

from blindgate_gateway.database import Transaction, clock, prepared
from blindgate_gateway.identity import Account, Role
from blindgate_gateway.log.objects import model_object
from blindgate_gateway.log.telling import tell, tenant_actor
from blindgate_gateway.problems import not_found, refusal
from blindgate_gateway.routing import Answer, Call, Raw, Routes
from blindgate_gateway.stored import renewed_size, send_blob
from blindgate_gateway.tables import manifests
from blindgate_protocol.errors import RolledBackManifestError
from blindgate_protocol.events import Action
from blindgate_protocol.manifest import Manifest, check_manifest
from blindgate_protocol.messages import ModelList, ModelOffer
from blindgate_protocol.signing import Envelope, Signed, open_signed

if TYPE_CHECKING:
    from blindgate_protocol.values import BlobRef, Millis

routes = Routes("models")

_DIGEST: Final = r"sha256:[0-9a-f]{64}"

_LATEST = (
    select(manifests.c.name, func.max(manifests.c.version).label("version"))
    .group_by(manifests.c.name)
    .subquery("latest")
)
_ALL = prepared(
    select(manifests.c.envelope)
    .join(_LATEST, (manifests.c.name == _LATEST.c.name) & (manifests.c.version == _LATEST.c.version))
    .order_by(manifests.c.name)
)
_BY_NAME = prepared(
    select(manifests.c.envelope, manifests.c.version)
    .where(manifests.c.name == bindparam("name"))
    .order_by(manifests.c.version.desc())
    .limit(1)
)
_NAMED = prepared(
    select(manifests.c.envelope).where(manifests.c.name == bindparam("name"), manifests.c.digest == bindparam("digest"))
)
_CLIENT_PART = prepared(
    select(manifests.c.tenant, manifests.c.client_digest).where(manifests.c.digest == bindparam("digest"))
)
_ENVELOPE = prepared(select(manifests.c.envelope).where(manifests.c.digest == bindparam("digest")))
_ENVELOPE_NOW = prepared(
    select(manifests.c.envelope, clock().label("now")).where(manifests.c.digest == bindparam("digest"))
)


@routes.get("/v1/models", roles={Role.TENANT, Role.READER, Role.PUBLISHER}, answers={200: ModelList})
def list_models(call: Call[Account, None]) -> Answer:
    """List every model in its latest version."""
    with call.parts.database.read() as connection:
        envelopes = connection.execute(_ALL).scalars()
    return ModelList(models=tuple(_offer(envelope) for envelope in envelopes))


@routes.get(
    "/v1/models/<name>",
    roles={Role.TENANT, Role.READER, Role.PUBLISHER},
    answers={200: ModelOffer},
    parameters={"manifest": ("query text", "not the latest version, but the one whose manifest has this digest")},
)
def show_model(call: Call[Account, None], name: str) -> Answer:
    """Give a model's manifest, in its latest version unless another is named; expired or not."""
    digest = call.text("manifest", pattern=_DIGEST)
    with call.parts.database.read() as connection:
        if digest is None:
            row = connection.execute(_BY_NAME, {"name": name}).first()
        else:
            row = connection.execute(_NAMED, {"name": name, "digest": digest}).first()
    if row is None:
        raise not_found("model")
    return _offer(row.envelope)


@routes.get("/v1/models/<manifest>/client", roles={Role.TENANT, Role.READER}, answers={200: Raw()})
def download_client_part(call: Call[Account, None], manifest: str) -> Answer:
    """Give the client part of the model whose manifest has this digest."""
    with call.parts.database.read() as connection:
        row = connection.execute(_CLIENT_PART, {"digest": manifest}).first()
    if row is None:
        raise not_found("model")
    return send_blob(call, row.tenant, row.client_digest)


@routes.post("/v1/models", roles={Role.PUBLISHER}, body=ModelOffer, answers={201: ModelOffer, 200: ModelOffer})
def offer_model(call: Call[Account, ModelOffer]) -> Answer:
    """Offer a model: both parts were uploaded before. The same offer again changes nothing."""
    manifest = open_signed(call.body.manifest, Manifest)
    document, publishers = manifest.document, call.parts.settings.publishers
    with call.parts.database.write() as connection:
        connection.alone("model", document.name)
        now = connection.execute(select(clock().label("now"))).scalar()
        latest = connection.execute(_BY_NAME, {"name": document.name}).first()
        seen = 0 if latest is None else latest.version
        known = connection.execute(_ENVELOPE, {"digest": manifest.digest}).scalar()
        # 1. and 3.
        check_manifest(manifest, publishers=publishers, now=now, seen_version=0 if known else seen)
        if known:
            return _offer(known), 200
        if document.version == seen:
            message = f"version {seen} of model {document.name!r} was published before, with another manifest"
            raise RolledBackManifestError(message)
        # 2.
        for name, part in (("client", document.client), ("server", document.server)):
            if part is not None:
                _check_part(connection, call.caller.tenant, name, part)
        stored = insert(manifests).values(
            digest=manifest.digest,
            name=document.name,
            version=document.version,
            tenant=call.caller.tenant,
            client_digest="" if document.client is None else document.client.digest,
            server_digest=document.server.digest,
            envelope=manifest.envelope.model_dump_json(),
            published=clock(),
        )
        published = connection.execute(stored.returning(manifests.c.published)).scalar()
        tell(
            connection,
            Action.MODEL_PUBLISHED,
            model_object(document.name, document.version),
            by=tenant_actor(connection, call.caller.tenant, "publisher"),
            tenant=call.caller.tenant,
            digest=manifest.digest,
            after="offered",
            details={"publisher": manifest.signer, "published": str(published)},
        )
    return call.body


def find_manifest(connection: Transaction, digest: str) -> "tuple[Signed[Manifest], Millis]":
    """The manifest of this digest, and the time. Raises `NotFoundError`."""
    row = connection.execute(_ENVELOPE_NOW, {"digest": digest}).first()
    if row is None:
        raise not_found("model")
    return opened_manifest(row.envelope), row.now


def find_latest(connection: Transaction, name: str) -> Signed[Manifest]:
    """The latest manifest of a model. Raises `NotFoundError`."""
    row = connection.execute(_BY_NAME, {"name": name}).first()
    if row is None:
        raise not_found("model")
    return opened_manifest(row.envelope)


@lru_cache(maxsize=256)
def opened_manifest(envelope: str) -> Signed[Manifest]:
    """A stored manifest, verified once in each process."""
    return open_signed(envelope.encode(), Manifest)


def _offer(envelope: str) -> ModelOffer:
    return ModelOffer(manifest=Envelope.from_bytes(envelope.encode()))


def _check_part(connection: Transaction, tenant: str, name: str, part: "BlobRef") -> None:
    size = renewed_size(connection, tenant, part.digest)
    if size is None:
        raise not_found(f"blob of the {name} part: upload it before the manifest")
    if size != part.size:
        raise refusal("digest-mismatch", f"the {name} part has {size} bytes, the manifest says {part.size}")
