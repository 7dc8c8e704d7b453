"""What a node shows before anything is sealed to it: its keys, and evidence that binds them. The shape, and no verdict.

A node inside a trusted execution environment makes a `KeySet` when it starts. A client asks with a nonce, for a model, under a
policy. The node writes down the `Binding` of all of these, and has the platform sign it: a CPU's report carries its hash, a GPU's
answers a nonce that is derived from it. Whoever believes the platform and its program then knows: these keys live in that machine,
it has loaded these weights, and it was asked just now.

    S           = the binding's canonical bytes
    report data = SHA-256(S), then 32 zero bytes: platforms have room for 64
    GPU nonce   = SHA-256("blindgate GPU nonce v1" || 0x00 || S)

`check_recipient` establishes, before anything is asked of the platform:

1. the node signed it that the key set names;
2. an operator that the reader allows vouches for that node now;
3. the key set's time has come and has not passed;
4. the evidence at hand is the one that the node named;
5. the evidence binds this key set, and the nonce, the model and the policy that the reader asked with.

What it does not establish: that the evidence is genuine, and of a machine and a program that the policy allows. That is the
appraisal's (`blindgate.attestation` in the SDK), which is given `Binding.report_data` and `Binding.gpu_nonce`.

Section 13 of docs/protocol.md.
"""

import hashlib
from collections.abc import Container
from typing import Annotated, ClassVar, Final, Literal, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pydantic import Field, WithJsonSchema, model_validator

from blindgate_protocol.canonical_values import CanonicalValue
from blindgate_protocol.errors import BlindgateError, RecipientError, SealExpiredError, SealTermsError
from blindgate_protocol.nodes import NodeCertificate, check_certificate
from blindgate_protocol.signing import Document, Envelope, Signed, open_signed, public_key
from blindgate_protocol.values import Digest, KeyId, Millis

X25519_BYTES: Final = 32
ML_KEM_768_BYTES: Final = 1184
X_WING_BYTES: Final = ML_KEM_768_BYTES + X25519_BYTES
NONCE_BYTES: Final = 32
REPORT_DATA_BYTES: Final = 64
MOST_GPUS: Final = 16
MAX_CERTIFICATE_BYTES: Final = 16 << 10
MOST_CERTIFICATES: Final = 12
MAX_PLATFORM_BYTES: Final = 64 << 10
MAX_COLLATERAL_BYTES: Final = 1 << 20
MAX_GPU_BYTES: Final = 1 << 19
MOST_REFERENCES: Final = 4
_X25519_PRIME: Final = 2**255 - 19
_GPU_NONCE: Final = b"blindgate GPU nonce v1\x00"


def _bytes_of(least: int, most: int) -> tuple[object, ...]:
    """The length of bytes in a field, and how it is told to readers of a schema."""
    return Field(min_length=least, max_length=most), WithJsonSchema({"type": "string", "format": "base64url"})


Nonce = Annotated[bytes, *_bytes_of(NONCE_BYTES, NONCE_BYTES)]
"""32 bytes that nobody could know before: drawn at random, or the SHA-256 of a checkpoint that witnesses cosigned."""

Certificate = Annotated[bytes, *_bytes_of(1, MAX_CERTIFICATE_BYTES)]
"""A certificate in DER, unread."""


class KeySet(CanonicalValue):
    """What a node can be sealed to, and signs its receipts with. It lives for one boot.

    Attributes:
        node: the key that the operator's certificate names. It is in here so that the platform's evidence covers it.
        receipt: the key that signs receipts; it never leaves the machine. May be the node's own.
        x25519: an X25519 public key, 32 bytes, in the one form that each has; none that leads every sender to one secret.
        x_wing: an X-Wing public key: ML-KEM-768's 1,184 bytes, then X25519's 32. `None`: this node's software has none.
        issued: from when it may be sealed to.
        expires: until when.
    """

    most_bytes: ClassVar[int] = 4096

    purpose: Literal["blindgate key set v1"] = "blindgate key set v1"
    node: KeyId
    receipt: KeyId
    x25519: Annotated[bytes, *_bytes_of(X25519_BYTES, X25519_BYTES)]
    x_wing: Annotated[bytes, *_bytes_of(X_WING_BYTES, X_WING_BYTES)] | None
    issued: Millis
    expires: Millis

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for name in ("node", "receipt"):
            try:
                public_key(getattr(self, name))
            except ValueError as error:
                message = f"{name} is no Ed25519 key"
                raise ValueError(message) from error
        _check_x25519(self.x25519, "x25519")
        if self.x_wing is not None:
            _check_x25519(self.x_wing[ML_KEM_768_BYTES:], "x_wing")
            _check_ml_kem(self.x_wing[:ML_KEM_768_BYTES])
        if self.issued >= self.expires:
            message = "expires must come after issued"
            raise ValueError(message)
        return self

    def check_time(self, now: Millis) -> None:
        """Decide whether it may be sealed to now. Raises `SealExpiredError`."""
        if now < self.issued:
            message = f"the key set is not valid yet: it is dated {self.issued - now} ms ahead of the clock here"
            raise SealExpiredError(message)
        if now >= self.expires:
            message = f"the key set ended {now - self.expires} ms ago: ask for recipients again"
            raise SealExpiredError(message)


def _check_x25519(raw: bytes, name: str) -> None:
    if int.from_bytes(raw, "little") >= _X25519_PRIME:  # X25519 would take it for another: one key, one name
        message = f"{name} is an X25519 key that is not in its canonical form"
        raise ValueError(message)
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError as error:
        message = f"{name} is an X25519 point of low order: whatever is sealed to it, everybody can open"
        raise ValueError(message) from error


def _check_ml_kem(raw: bytes) -> None:
    try:
        MLKEM768PublicKey.from_public_bytes(raw)
    except UnsupportedAlgorithm:
        return  # then X-Wing is not used here either
    except ValueError as error:
        message = "x_wing does not begin with an ML-KEM-768 key"
        raise ValueError(message) from error


class Binding(CanonicalValue):
    """What the evidence of a node is about. Its canonical bytes are S.

    Attributes:
        key_set: the digest of the key set.
        nonce: the client's.
        gpus: the SHA-256 of each GPU's own certificate in DER, in the order of the GPU evidence; none where the model runs on the
            CPU.
        model: the digest of the manifest of the model that is loaded.
        policy: by which digest the client calls its policy.
    """

    most_bytes: ClassVar[int] = 4096

    purpose: Literal["blindgate evidence v1"] = "blindgate evidence v1"
    key_set: Digest
    nonce: Nonce
    gpus: Annotated[tuple[Digest, ...], Field(max_length=MOST_GPUS)]
    model: Digest
    policy: Digest

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.gpus)) != len(self.gpus):
            message = "a GPU occurs twice"
            raise ValueError(message)
        return self

    def report_data(self) -> bytes:
        """The 64 bytes that the CPU's evidence must carry: SHA-256 of S, then 32 zero bytes."""
        return hashlib.sha256(self.to_bytes()).digest().ljust(REPORT_DATA_BYTES, b"\0")

    def gpu_nonce(self) -> bytes:
        """The 32 bytes that each GPU's evidence must answer. No canonical JSON begins as what is hashed here does."""
        return hashlib.sha256(_GPU_NONCE + self.to_bytes()).digest()


class Evidence(CanonicalValue):
    """A node's evidence as it was handed over. Nothing of it is believed yet.

    Attributes:
        binding: what it is about, by the node's word; the platform's signature covers its hash.
        platform: the CPU's report, quote or document.
        chain: certificates that came beside it, in DER.
        collateral: what the platform's maker says of it, as it came; `None`: nothing.
        gpu: the GPUs' evidence, as it came; `None` exactly where the binding names no GPU.
        references: signed reference measurements, as they came.
    """

    most_bytes: ClassVar[int] = 4 << 20

    binding: Binding
    platform: Annotated[bytes, *_bytes_of(1, MAX_PLATFORM_BYTES)]
    chain: Annotated[tuple[Certificate, ...], Field(max_length=MOST_CERTIFICATES)]
    collateral: Annotated[bytes, *_bytes_of(1, MAX_COLLATERAL_BYTES)] | None
    gpu: Annotated[bytes, *_bytes_of(1, MAX_GPU_BYTES)] | None
    references: Annotated[
        tuple[Annotated[bytes, *_bytes_of(1, MAX_COLLATERAL_BYTES)], ...], Field(max_length=MOST_REFERENCES)
    ]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.gpu is None) != (not self.binding.gpus):
            message = "evidence about GPUs goes with a binding that names them"
            raise ValueError(message)
        return self


class Recipient(Document):
    """A node offers itself: seal to these keys, this is what I prove. Signed by the node's key.

    Attributes:
        certificate: the operator's envelope for the node.
        evidence: the digest of the evidence, which comes beside this.
    """

    media_type: ClassVar[str] = "application/vnd.blindgate.recipient.v1+json"

    certificate: Envelope
    key_set: KeySet
    evidence: Digest


def check_recipient(  # noqa: PLR0913  (each is something that the reader asked with)
    recipient: Signed[Recipient],
    evidence: Evidence,
    *,
    nonce: bytes,
    model: str,
    policy: str,
    operators: Container[str],
    now: Millis,
) -> Signed[NodeCertificate]:
    """Decide whether a node's offer answers what was asked (steps 1 to 5 above). Gives the node's certificate.

    Raises `RecipientError`, `SealExpiredError` or `SealTermsError`.
    """
    offered = recipient.document
    node = offered.key_set.node
    # 1.
    if recipient.signer != node:
        message = f"the key set names node {node} and is offered by {recipient.signer}"
        raise RecipientError(message)
    # 2.
    try:
        certificate = open_signed(offered.certificate, NodeCertificate)
        check_certificate(certificate, node=node, at=now)
    except BlindgateError as error:
        message = f"the certificate of node {node} is refused: {error}"
        raise RecipientError(message) from error
    if certificate.signer not in operators:
        message = f"node {certificate.document.name!r} belongs to operator {certificate.signer}, whom the policy does not name"
        raise RecipientError(message)
    # 3.
    offered.key_set.check_time(now)
    # 4.
    if evidence.digest != offered.evidence:
        message = f"the evidence at hand is not the one that node {certificate.document.name!r} named"
        raise SealTermsError(message)
    # 5.
    bound = evidence.binding
    for name, theirs, ours in (
        ("key set", bound.key_set, offered.key_set.digest),
        ("nonce", bound.nonce, nonce),
        ("model", bound.model, model),
        ("policy", bound.policy, policy),
    ):
        if theirs != ours:
            message = f"the evidence of node {certificate.document.name!r} binds another {name} than was asked"
            raise SealTermsError(message)
    return certificate
