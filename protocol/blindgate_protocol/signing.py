"""Signed documents: one envelope for everything that anybody signs.

The envelope is DSSE v1 (the Dead Simple Signing Envelope of the Secure Systems Lab, as in-toto and Sigstore use it) with
exactly one Ed25519 signature over

    "DSSEv1" SP len(type) SP type SP len(payload) SP payload

The payload is the canonical JSON of one document, and the type names which, so a signature over an order can never pass for
one over a receipt. The key id in the envelope *is* the public key.

`open_signed` establishes, in this order:

1. the envelope has the shape and the type that the caller asked for;
2. the signature verifies under the key that the envelope names;
3. the payload is canonical and has every field of the document, and no other.

What it does not establish, and the caller must: that this key may sign this kind of document. `Signed.signer` is there to be
compared with a policy.

Section 3 of docs/protocol.md.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, StringConstraints, ValidationError

from blindgate_protocol.canonical import canonical, digest, parse_canonical
from blindgate_protocol.errors import EnvelopeError, MalformedError, SignatureError
from blindgate_protocol.values import KeyId, Value

MAX_ENVELOPE_BYTES = 2 << 20
"""No document comes near; what is larger is refused before it is parsed."""


class Document(Value):
    """A value that gets signed. `media_type` says which, inside the signature."""

    media_type: ClassVar[str]

    def payload(self) -> bytes:
        """The document's canonical bytes."""
        return canonical(self.model_dump(mode="json"))


class Signature(Value):
    """One signature, and the key that made it."""

    keyid: KeyId
    sig: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]


class Envelope(Value):
    """A DSSE v1 envelope with one signature."""

    payload: str
    payloadType: Annotated[str, StringConstraints(max_length=200)]  # noqa: N815  (DSSE's own spelling)
    signatures: Annotated[tuple[Signature], Field(min_length=1, max_length=1)]

    def to_bytes(self) -> bytes:
        """The envelope's canonical bytes, as they are stored and sent."""
        return canonical(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Parse an envelope. Nothing is verified yet. Raises `EnvelopeError`."""
        if len(data) > MAX_ENVELOPE_BYTES:
            message = f"an envelope of {len(data)} bytes: at most {MAX_ENVELOPE_BYTES}"
            raise EnvelopeError(message)
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            message = f"not a DSSE envelope: {first_error(error)}"
            raise EnvelopeError(message) from error


DocumentT = TypeVar("DocumentT", bound=Document)


@dataclass(frozen=True)
class Signed(Generic[DocumentT]):
    """A document whose signature was verified.

    Attributes:
        document: what was signed.
        signer: the key that signed it. Whether it may is for the caller to say.
        digest: the digest of the signed bytes: the document's name everywhere.
        envelope: where it came from, to be kept or sent on.
    """

    document: DocumentT
    signer: str
    digest: str
    envelope: Envelope


class SigningKey:
    """An Ed25519 signing key. Its repr shows the public half only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.id: str = key_id(private.public_key())

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a fresh key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """Build from the 32 secret bytes. Raises `MalformedError`."""
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(seed))
        except ValueError as error:
            message = f"a signing key has 32 bytes, got {len(seed)}"
            raise MalformedError(message) from error

    def seed(self) -> bytes:
        """The 32 secret bytes, for a key store."""
        return self._private.private_bytes_raw()

    def sign(self, document: DocumentT) -> Signed[DocumentT]:
        """Sign `document`."""
        payload = document.payload()
        signature = self._private.sign(pre_authentication_encoding(document.media_type, payload))
        envelope = Envelope(
            payload=base64.b64encode(payload).decode(),
            payloadType=document.media_type,
            signatures=(Signature(keyid=self.id, sig=base64.b64encode(signature).decode()),),
        )
        return Signed(document, self.id, digest(payload), envelope)

    def sign_bytes(self, message: bytes) -> bytes:
        """Sign what is no document: 64 bytes. The form of `message` must be one that no envelope's signed bytes can have."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"


def key_id(public: Ed25519PublicKey) -> str:
    """The id of a public key: the key itself, in text."""
    return "ed25519:" + base64.urlsafe_b64encode(public.public_bytes_raw()).rstrip(b"=").decode()


def open_signed(envelope: Envelope | bytes, kind: type[DocumentT]) -> Signed[DocumentT]:
    """Verify an envelope and parse what it holds (steps 1 to 3 above).

    Raises `EnvelopeError` when it is not a signed document of this kind, and `SignatureError` when the signature is wrong.
    """
    if isinstance(envelope, bytes):
        envelope = Envelope.from_bytes(envelope)
    # 1.
    if envelope.payloadType != kind.media_type:
        message = f"a signed document of type {envelope.payloadType!r}, expected {kind.media_type!r}"
        raise EnvelopeError(message)
    signature = envelope.signatures[0]
    payload, sig = _from_base64(envelope.payload), _from_base64(signature.sig)
    # 2.
    try:
        public_key(signature.keyid).verify(sig, pre_authentication_encoding(kind.media_type, payload))
    except (InvalidSignature, ValueError) as error:
        message = f"the signature over this {kind.__name__.lower()} does not verify under {signature.keyid}"
        raise SignatureError(message) from error
    # 3.
    try:
        parse_canonical(payload)
        document = kind.model_validate_json(payload)
    except MalformedError as error:
        message = f"the signed {kind.__name__.lower()} is {error}"
        raise EnvelopeError(message) from error
    except ValidationError as error:
        message = f"the signed {kind.__name__.lower()} is malformed: {first_error(error)}"
        raise EnvelopeError(message) from error
    return Signed(document, signature.keyid, digest(payload), envelope)


def first_error(error: ValidationError) -> str:
    """Say which field is wrong and which rule it breaks, without repeating its value."""
    first: Any = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"]) or "document"
    return f"{where}: {first['msg']}"


def public_key(keyid: str) -> Ed25519PublicKey:
    """The key that an id names. Raises `ValueError` for what names none."""
    raw = base64.urlsafe_b64decode(keyid.removeprefix("ed25519:") + "=")
    public = Ed25519PublicKey.from_public_bytes(raw)
    if key_id(public) != keyid:  # the last character has two bits to spare: one key, one name
        message = "not the canonical name of a key"
        raise ValueError(message)
    return public


def _from_base64(text: str) -> bytes:
    """Decode the one base64 text that these bytes have."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        message = "the envelope holds what is not base64"
        raise EnvelopeError(message) from error
    if base64.b64encode(data).decode() != text:
        message = "the envelope holds base64 that is not canonical"
        raise EnvelopeError(message)
    return data


def pre_authentication_encoding(media_type: str, payload: bytes) -> bytes:
    """The bytes that are signed for `payload`: DSSE 1.0's encoding, which has its type in it."""
    name = media_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)
