"""An evaluation key's life, as its owner signs it.

The client signs each event in the life of its own keys with a sequence number and the digest of the event before, so a gateway
that drops or reorders one leaves a gap that anybody with the chain can see. The states are NIST SP 800-57's, as far as they
apply to a key that encrypts nothing.

Section 9 of docs/protocol.md.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from blindgate_protocol.errors import MalformedError, SignatureError
from blindgate_protocol.signing import Document, Signed
from blindgate_protocol.values import BlobRef, Digest, KeyId, Millis, Name


class KeyState(StrEnum):
    """Where an evaluation key stands at the gateway."""

    REGISTERED = "registered"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    SUPERSEDED = "superseded"
    DESTROYED = "destroyed"


KEY_TRANSITIONS: dict[KeyState | None, frozenset[KeyState]] = {
    None: frozenset({KeyState.REGISTERED, KeyState.ACTIVE}),
    KeyState.REGISTERED: frozenset({KeyState.ACTIVE, KeyState.DESTROYED}),
    KeyState.ACTIVE: frozenset({KeyState.SUSPENDED, KeyState.SUPERSEDED, KeyState.DESTROYED}),
    KeyState.SUSPENDED: frozenset({KeyState.ACTIVE, KeyState.SUPERSEDED, KeyState.DESTROYED}),
    KeyState.SUPERSEDED: frozenset({KeyState.DESTROYED}),
    KeyState.DESTROYED: frozenset(),
}


class KeyStatement(Document):
    """The owner of a key says which state it is in from now on.

    Attributes:
        key: the evaluation key's blob; its digest names the key.
        parameters: the digest of the key parameters, as manifests name them.
        sequence: 1 for a client's first statement about this key, then one more each time.
        previous: the digest of the statement before; `None` for the first.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.key-statement.v1+json"

    key: BlobRef
    tenant: Name
    parameters: Digest
    state: KeyState
    client: KeyId
    sequence: Annotated[int, Field(ge=1)]
    previous: Digest | None
    issued: Millis


def check_statement(statement: Signed[KeyStatement], previous: Signed[KeyStatement] | None) -> None:
    """Decide whether a verified statement follows on `previous`. Raises `SignatureError` or `MalformedError`."""
    document = statement.document
    before = None if previous is None else previous.document
    if statement.signer != document.client or (before is not None and before.client != document.client):
        message = f"a statement about client {document.client}'s key is signed by {statement.signer}"
        raise SignatureError(message)
    if document.previous != (None if previous is None else previous.digest):
        message = "the statement does not follow on the last one about this key"
        raise MalformedError(message)
    if document.sequence != (1 if before is None else before.sequence + 1):
        message = f"statement {document.sequence} about this key is out of sequence"
        raise MalformedError(message)
    if before is not None and _about(document) != _about(before):
        message = "the statement is about another key"
        raise MalformedError(message)
    if document.state not in KEY_TRANSITIONS[None if before is None else before.state]:
        came_from = "new" if before is None else before.state.value
        message = f"a key that is {came_from} cannot become {document.state.value}"
        raise MalformedError(message)


def _about(statement: KeyStatement) -> tuple[BlobRef, str, str]:
    """What no later statement about the same key may change."""
    return statement.key, statement.tenant, statement.parameters
