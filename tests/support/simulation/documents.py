"""Everybody's signed documents, the same in each schedule: signing costs more than all else together, so each is signed once.

What differs between schedules is who sends which of them when.
"""

import hashlib
from functools import lru_cache
from typing import Final

from blindgate_protocol.canonical import digest
from blindgate_protocol.keys import KeyState, KeyStatement
from blindgate_protocol.manifest import Manifest, model_ref
from blindgate_protocol.nodes import NodeCertificate
from blindgate_protocol.order import Order
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import BlobRef, Millis
from brokerage import PARAMETERS, make_manifest

EPOCH: Final[Millis] = 1_800_000_000_000
"""When every schedule begins."""
HOUR: Final[Millis] = 3_600_000
DAY: Final[Millis] = 24 * HOUR
LIFETIMES: Final[tuple[Millis, ...]] = (HOUR, HOUR, HOUR, 20 * 60_000, 90_000)
"""How long orders are good for, from the beginning."""
SERVER_PART, CLIENT_PART = b"the part of a model that nodes have", b"the part of a model that clients have"


def signing_key(name: str) -> SigningKey:
    """Somebody's key."""
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


PUBLISHER, OPERATOR, CLIENT = map(signing_key, ("publisher", "operator", "client"))


def blob(name: str, size: int) -> bytes:
    """Bytes that no other blob has."""
    return hashlib.shake_128(name.encode()).digest(size)


def reference(data: bytes) -> BlobRef:
    """What names `data`."""
    return BlobRef(digest=digest(data), size=len(data))


@lru_cache(maxsize=2)
def manifest(*, keyed: bool) -> Signed[Manifest]:
    """A model that computes nothing, with or without an evaluation key."""
    return PUBLISHER.sign(
        make_manifest(
            client=CLIENT_PART,
            server=SERVER_PART,
            name="keyed" if keyed else "echo",
            evaluation_key=keyed,
            issued=EPOCH - DAY,
            expires=EPOCH + 30 * DAY,
        )
    )


@lru_cache(maxsize=4096)
def order(tenant: str, number: int, *, lifetime: Millis, size: int, key: BlobRef | None) -> tuple[Signed[Order], bytes]:
    """A tenant's order and its input's bytes."""
    data = blob(f"input {tenant} {number}", size)
    name = hashlib.sha256(f"{tenant} {number} {lifetime} {size} {key}".encode()).hexdigest()[:32]
    signed = CLIENT.sign(
        Order(
            job=name,
            tenant=tenant,
            model=model_ref(manifest(keyed=key is not None)),
            input=reference(data),
            evaluation_key=None if key is None else key.digest,
            rows=1 + number % 3,
            operators=(OPERATOR.id,),
            client=CLIENT.id,
            issued=EPOCH,
            deadline=EPOCH + lifetime,
        )
    )
    return signed, data


@lru_cache(maxsize=1024)
def statement(tenant: str, key: BlobRef, *states: KeyState) -> Signed[KeyStatement]:
    """The last of what a client said about a key."""
    previous = statement(tenant, key, *states[:-1]) if len(states) > 1 else None
    return CLIENT.sign(
        KeyStatement(
            key=key,
            tenant=tenant,
            parameters=PARAMETERS,
            state=states[-1],
            client=CLIENT.id,
            sequence=len(states),
            previous=None if previous is None else previous.digest,
            issued=EPOCH,
        )
    )


@lru_cache(maxsize=16)
def certificate(name: str) -> Signed[NodeCertificate]:
    """The operator's word for a node."""
    return OPERATOR.sign(
        NodeCertificate(
            node=signing_key(name).id, name=name, operator=OPERATOR.id, issued=EPOCH - DAY, expires=EPOCH + 30 * DAY
        )
    )
