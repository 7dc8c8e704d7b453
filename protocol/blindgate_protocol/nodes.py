"""Who a node is: an operator's signature over its key, and the node's own proof that it holds that key.

What a node says about itself is its word, signed: an `Eviction` states that it forgot a key, and nobody can know that it did.

Section 6 of docs/protocol.md.
"""

from typing import ClassVar, Literal

from blindgate_protocol.errors import ReceiptNodeError
from blindgate_protocol.signing import Document, Signed
from blindgate_protocol.values import Digest, KeyId, Millis, Name, Text

EvictionReason = Literal["unused", "room", "stopping"]


class NodeCertificate(Document):
    """An operator vouches for a node's key."""

    media_type: ClassVar[str] = "application/vnd.blindgate.node-certificate.v1+json"

    node: KeyId
    name: Name
    operator: KeyId
    issued: Millis
    expires: Millis


class EnrolmentRequest(Document):
    """A node asks a gateway to take it in. Signed by the node's key: proof that it holds it.

    Attributes:
        gateway: the address that the node was told to use, so that a request cannot be passed on to another gateway.
        challenge: the digest of the enrolment token; the token itself goes beside this document.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.enrolment.v1+json"

    node: KeyId
    gateway: Text
    challenge: Text
    issued: Millis


class Eviction(Document):
    """A node says that a tenant's evaluation key is in its memory no more. Signed by the node's key.

    Attributes:
        key: the key's digest.
        reason: `unused` for a while, `room` was needed for another, the node is `stopping`.
        issued: when it was wiped, by the node's clock.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.key-eviction.v1+json"

    node: KeyId
    tenant: Name
    key: Digest
    reason: EvictionReason
    issued: Millis


def check_certificate(certificate: Signed[NodeCertificate], *, node: str, at: Millis) -> None:
    """Decide whether a verified certificate vouches for `node` at time `at`. Raises `ReceiptNodeError`.

    Whether its operator is trusted is the caller's to decide.
    """
    document = certificate.document
    if certificate.signer != document.operator:
        message = f"the certificate names operator {document.operator} and is signed by {certificate.signer}"
        raise ReceiptNodeError(message)
    if document.node != node:
        message = f"the certificate is for node {document.node}, not for {node}"
        raise ReceiptNodeError(message)
    if not document.issued <= at < document.expires:
        message = f"the certificate of node {document.name!r} is not valid at the receipt's time"
        raise ReceiptNodeError(message)
