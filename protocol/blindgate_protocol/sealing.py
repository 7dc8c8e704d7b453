"""The content key of a job, sealed to each node that may open it: what a client makes after it believed them, and a node opens.

The client draws one content key for a job (`content_key`), seals the request under it (`chunks`), signs an order that names the
digest of the sealed request, and then wraps the content key once for each recipient, by HPKE (RFC 9180) in base mode:

    wrapped = enc || ct = SealBase(public key, info, additional data = "", content key)
    info    = canonical bytes of the terms, and the recipient's key set, evidence and KEM

The suites are DHKEM(X25519, HKDF-SHA256) (0x0020) and X-Wing (0x647A), each with HKDF-SHA256 (0x0001) and AES-256-GCM (0x0002).
X-Wing is taken wherever the key set and the software here have it. No gateway can talk that down: evidence binds the key set.

Everything that the content key is for stands in `info`, so a wrapped key opens under the terms that it was made for or not at all.
`open_seal` establishes, on the node:

1. the terms are of this order: job, digest, model;
2. they have not expired, nor has the key set;
3. the seal is for this key set. On reading: no key set occurs twice in it;
4. the evidence that it names is one that this node showed, for that model and that policy;
5. the content key opens under the terms.

What it does not establish, and the node must: that this seal was not opened before (`WrappedKey.digest` is there to be remembered
until the terms expire), that the order itself may be acted on (`order.check_order`), and that the request's bytes have the digest
that the order names.

One content key is shared by all recipients of a job. So each of them could forge another's answer, and the receipt's signature
says who gave it.

Section 13 of docs/protocol.md.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, Final, Literal, Self

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from pydantic import Field, WithJsonSchema, model_validator

from blindgate_protocol.canonical import canonical
from blindgate_protocol.canonical_values import CanonicalValue
from blindgate_protocol.chunks import RequestStream, ResponseStream
from blindgate_protocol.content_key import SECRET_BYTES, ContentKey, Draw
from blindgate_protocol.errors import MalformedError, RecipientError, SealError, SealExpiredError, SealTermsError
from blindgate_protocol.evidence import ML_KEM_768_BYTES, Binding, KeySet, Recipient
from blindgate_protocol.order import MOST_NODES, Order
from blindgate_protocol.padding import Padding
from blindgate_protocol.signing import Signed, SigningKey
from blindgate_protocol.values import Digest, JobId, Millis

Kem = Literal["x25519", "x-wing"]
MOST_RECIPIENTS: Final = MOST_NODES
SEED_BYTES: Final = 32
_TAG_BYTES: Final = 16
WRAPPED_BYTES: Final[Mapping[str, int]] = {
    "x25519": KEM.X25519.enc_length() + SECRET_BYTES + _TAG_BYTES,
    "x-wing": KEM.MLKEM768_X25519.enc_length() + SECRET_BYTES + _TAG_BYTES,
}
"""How long a wrapped content key is: 80 and 1,168 bytes."""


class Terms(CanonicalValue):
    """What a content key is for. Everything here is bound into each wrapped key.

    Attributes:
        order: the digest of the client's order, which names the sealed request by its digest.
        model: the digest of the model's manifest.
        policy: by which digest the client calls its policy.
        padding: how the chunks of the request and of the answer are padded.
        expires: from when on nobody opens it.
    """

    most_bytes: ClassVar[int] = 4096

    purpose: Literal["blindgate seal v1"] = "blindgate seal v1"
    job: JobId
    order: Digest
    model: Digest
    policy: Digest
    padding: Padding
    expires: Millis

    def request(self) -> RequestStream:
        """What the request is sealed as."""
        return RequestStream(job=self.job, padding=self.padding)

    def response(self, *, key_set: str, evidence: str) -> ResponseStream:
        """What the answer of the recipient with this key set and this evidence is sealed as."""
        return ResponseStream(job=self.job, order=self.order, key_set=key_set, evidence=evidence, padding=self.padding)


class WrappedKey(CanonicalValue):
    """A content key for one recipient.

    Attributes:
        key_set: the digest of the recipient's key set.
        evidence: the digest of the evidence for which it was believed.
        sealed: encapsulation and ciphertext, as long as the KEM makes them.
    """

    most_bytes: ClassVar[int] = 4096

    key_set: Digest
    evidence: Digest
    kem: Kem
    sealed: Annotated[
        bytes, Field(max_length=max(WRAPPED_BYTES.values())), WithJsonSchema({"type": "string", "format": "base64url"})
    ]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.sealed) != WRAPPED_BYTES[self.kem]:
            message = f"{self.kem} gives {WRAPPED_BYTES[self.kem]} bytes, got {len(self.sealed)}"
            raise ValueError(message)
        return self


class Seal(CanonicalValue):
    """A content key, for each recipient that may have it, and the terms. It travels beside the order, and holds no secret."""

    most_bytes: ClassVar[int] = 1 << 16

    terms: Terms
    recipients: Annotated[tuple[WrappedKey, ...], Field(min_length=1, max_length=MOST_RECIPIENTS)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({one.key_set for one in self.recipients}) != len(self.recipients):
            message = "a key set occurs twice"
            raise ValueError(message)
        return self


class RecipientKeys:
    """The secret side of a key set. It is never stored: it lives as long as its process. Its repr shows the public half only.

    Attributes:
        key_set: the public half.
        receipt: the key that signs receipts.
    """

    def __init__(  # noqa: PLR0913  (a key set's fields)
        self, *, node: str, receipt: SigningKey, x25519: bytes, x_wing: bytes | None, issued: Millis, expires: Millis
    ) -> None:
        """Make the keys from secret seeds of 32 bytes; without one for X-Wing, none of that.

        Raises `MalformedError` for a seed of another length, and `RecipientError` where X-Wing is asked for and the software here
        has none.
        """
        for seed in (x25519, x_wing):
            if seed is not None and len(seed) != SEED_BYTES:
                message = f"a key's seed has {SEED_BYTES} bytes, got {len(seed)}"
                raise MalformedError(message)
        self.receipt = receipt
        self._x25519 = X25519PrivateKey.from_private_bytes(x25519)
        self._x_wing = None if x_wing is None else _XWing.from_seed(x_wing)
        self.key_set = KeySet(
            node=node,
            receipt=receipt.id,
            x25519=self._x25519.public_key().public_bytes_raw(),
            x_wing=None if self._x_wing is None else self._x_wing.public(),
            issued=issued,
            expires=expires,
        )

    @classmethod
    def generate(
        cls, *, node: str, receipt: SigningKey, issued: Millis, expires: Millis, draw: Draw = secrets.token_bytes
    ) -> Self:
        """Make fresh keys: of every KEM that the software here has."""
        x25519, x_wing = draw(SEED_BYTES), draw(SEED_BYTES) if has_x_wing() else None
        return cls(node=node, receipt=receipt, x25519=x25519, x_wing=x_wing, issued=issued, expires=expires)

    def unwrap(self, wrapped: WrappedKey, terms: Terms) -> ContentKey:
        """Open a wrapped key under these terms. Raises `SealTermsError` or `SealError`.

        Whether the terms are those of a job at hand is `open_seal`'s to decide.
        """
        if wrapped.key_set != self.key_set.digest:
            message = f"sealed to key set {wrapped.key_set}, not to {self.key_set.digest}"
            raise SealTermsError(message)
        key: X25519PrivateKey | MLKEM768X25519PrivateKey = self._x25519
        if wrapped.kem == "x-wing":
            if self._x_wing is None:
                message = "sealed by X-Wing, which this key set does not have"
                raise RecipientError(message)
            key = self._x_wing.private()
        info = seal_info(terms, key_set=wrapped.key_set, evidence=wrapped.evidence, kem=wrapped.kem)
        try:
            return ContentKey(_suite(wrapped.kem).decrypt(wrapped.sealed, key, info))
        except (InvalidTag, ValueError) as error:
            message = "the wrapped key does not open: it was changed, or made under other terms or for another key set"
            raise SealError(message) from error

    def __repr__(self) -> str:
        return f"RecipientKeys({self.key_set.digest})"


def seal_key(content_key: ContentKey, terms: Terms, recipients: Sequence[Recipient], *, now: Millis) -> Seal:
    """Wrap a content key for each of 1 to 16 recipients, each of which the caller believes.

    Raises `SealExpiredError` where the terms have expired or a key set ends before them, and `RecipientError` for no recipient, too
    many, one that occurs twice, and one whose keys cannot be used.
    """
    if not 1 <= len(recipients) <= MOST_RECIPIENTS:
        message = f"a job is sealed to 1 to {MOST_RECIPIENTS} recipients, got {len(recipients)}"
        raise RecipientError(message)
    if len({recipient.key_set.digest for recipient in recipients}) != len(recipients):
        message = "a recipient occurs twice: leave one of them out"
        raise RecipientError(message)
    _check_unexpired(terms, now)
    return Seal(terms=terms, recipients=tuple(_wrap(content_key, terms, recipient, now) for recipient in recipients))


@dataclass(frozen=True)
class Unsealed:
    """What a node has after it opened a seal.

    Attributes:
        request: what the request is to be opened as.
        response: what the answer is to be sealed as.
    """

    content_key: ContentKey
    wrapped: WrappedKey
    request: RequestStream
    response: ResponseStream


def open_seal(
    seal: Seal, keys: RecipientKeys, *, order: Signed[Order], shown: Mapping[str, Binding], now: Millis
) -> Unsealed:
    """Decide whether a seal may be opened for this order, and open it (steps 1 to 5 above).

    `shown` is what this node's evidence binds, by the evidence's digest, as long as the node stands by it.
    Raises `SealTermsError`, `SealExpiredError`, `RecipientError` or `SealError`.
    """
    terms, key_set = seal.terms, keys.key_set
    # 1.
    for name, theirs, ours in (
        ("job", terms.job, order.document.job),
        ("order", terms.order, order.digest),
        ("model", terms.model, order.document.model.manifest),
    ):
        if theirs != ours:
            message = f"the seal is for another {name} than the order"
            raise SealTermsError(message)
    # 2.
    _check_unexpired(terms, now)
    key_set.check_time(now)
    # 3.
    wrapped = next((one for one in seal.recipients if one.key_set == key_set.digest), None)
    if wrapped is None:
        message = (
            f"the job is not sealed to this node: none of its {len(seal.recipients)} recipients is {key_set.digest}"
        )
        raise SealTermsError(message)
    # 4.
    bound = shown.get(wrapped.evidence)
    if bound is None or (bound.key_set, bound.model, bound.policy) != (key_set.digest, terms.model, terms.policy):
        message = "the seal rests on evidence that this node did not show for this key set, model and policy"
        raise SealTermsError(message)
    # 5.
    content_key = keys.unwrap(wrapped, terms)
    response = terms.response(key_set=wrapped.key_set, evidence=wrapped.evidence)
    return Unsealed(content_key, wrapped, terms.request(), response)


def seal_info(terms: Terms, *, key_set: str, evidence: str, kem: Kem) -> bytes:
    """HPKE's `info`: everything that a wrapped key is bound to."""
    return canonical(terms.model_dump(mode="json") | {"key_set": key_set, "evidence": evidence, "kem": kem})


@cache
def has_x_wing() -> bool:
    """Whether the software here has X-Wing."""
    try:
        MLKEM768PrivateKey.from_seed_bytes(bytes(2 * SEED_BYTES))
    except UnsupportedAlgorithm:
        return False
    return True


def _wrap(content_key: ContentKey, terms: Terms, recipient: Recipient, now: Millis) -> WrappedKey:
    key_set, evidence = recipient.key_set, recipient.evidence
    key_set.check_time(now)
    if terms.expires > key_set.expires:
        message = "the job's seal lasts longer than a recipient's key set: end it earlier, or ask for recipients again"
        raise SealExpiredError(message)
    x_wing = key_set.x_wing if has_x_wing() else None
    kem: Kem = "x25519" if x_wing is None else "x-wing"
    info = seal_info(terms, key_set=key_set.digest, evidence=evidence, kem=kem)
    try:
        sealed = _suite(kem).encrypt(content_key.secret(), _public(key_set.x25519, x_wing), info)
    except ValueError as error:  # a key set that was not read but made up here
        message = f"nothing can be sealed to key set {key_set.digest}"
        raise RecipientError(message) from error
    return WrappedKey(key_set=key_set.digest, evidence=evidence, kem=kem, sealed=sealed)


def _public(x25519: bytes, x_wing: bytes | None) -> X25519PublicKey | MLKEM768X25519PublicKey:
    if x_wing is None:
        return X25519PublicKey.from_public_bytes(x25519)
    ml_kem = MLKEM768PublicKey.from_public_bytes(x_wing[:ML_KEM_768_BYTES])
    return MLKEM768X25519PublicKey(ml_kem, X25519PublicKey.from_public_bytes(x_wing[ML_KEM_768_BYTES:]))


def _check_unexpired(terms: Terms, now: Millis) -> None:
    if now >= terms.expires:
        message = f"the seal of job {terms.job} expired {now - terms.expires} ms ago: order again"
        raise SealExpiredError(message)


def _suite(kem: Kem) -> Suite:
    return Suite(KEM.X25519 if kem == "x25519" else KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, repr=False)
class _XWing:
    """An X-Wing key pair, in its halves."""

    ml_kem: MLKEM768PrivateKey
    x25519: X25519PrivateKey

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Both halves from 32 bytes, as draft-connolly-cfrg-xwing-kem expands a decapsulation key."""
        expanded = hashlib.shake_256(seed).digest(3 * SEED_BYTES)
        try:
            ml_kem = MLKEM768PrivateKey.from_seed_bytes(expanded[: 2 * SEED_BYTES])
        except UnsupportedAlgorithm as error:
            message = "X-Wing needs ML-KEM-768, which the OpenSSL here does not have"
            raise RecipientError(message) from error
        return cls(ml_kem, X25519PrivateKey.from_private_bytes(expanded[2 * SEED_BYTES :]))

    def private(self) -> MLKEM768X25519PrivateKey:
        return MLKEM768X25519PrivateKey(self.ml_kem, self.x25519)

    def public(self) -> bytes:
        return self.ml_kem.public_key().public_bytes_raw() + self.x25519.public_key().public_bytes_raw()
