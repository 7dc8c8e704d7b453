"""OpenSSF Model Signing: whoever made a model signs its folder, before anybody publishes it.

The signature is a file of its own, `model.sig`: a Sigstore bundle with a DSSE envelope, which holds an in-toto statement, which
lists the folder's files. Nothing of it is believed before its turn. In this order:

1. the file has at most 4 MiB, is a bundle of version 0.3, and holds one DSSE envelope of type in-toto with one signature;
2. it was made by a key or a certificate's key. Keyless signatures (Fulcio, Rekor) need a service's word, and are refused by name;
3. the signature over the envelope's pre-authentication encoding verifies under the key at hand, by the hash of its curve;
4. only then the statement is read, and held against the files at hand (`model_statements`).

Who the key belongs to is not decided here: the publisher says it (`blindgate.model_makers`), and the manifest states it
(`blindgate_protocol.makers`).

OpenSSF Model Signing 1.0; Sigstore bundle 0.3; DSSE 1.0.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509 import load_der_x509_certificate
from pydantic import Field, StringConstraints, ValidationError

from blindgate_models.model_statements import SIGNATURE, Foreign, Short, Statement, read_foreign, read_statement, refuse
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import PackageDigestError, PackageError, SignatureError
from blindgate_protocol.makers import MAX_SIGNATURE_BYTES, Algorithm, Maker
from blindgate_protocol.signing import first_error, pre_authentication_encoding
from blindgate_protocol.values import BlobRef

_BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD: Final = "application/vnd.in-toto+json"
_CURVES: Final[dict[str, tuple[Algorithm, HashAlgorithm]]] = {
    "secp256r1": ("ecdsa-p256-sha256", SHA256()),
    "secp384r1": ("ecdsa-p384-sha384", SHA384()),
    "secp521r1": ("ecdsa-p521-sha512", SHA512()),
}
_AGAIN: Final = "ask its maker for a signature by a key or a certificate (model_signing sign key, or sign certificate)"
_MAX_CERTIFICATES: Final = 8


class _PublicKey(Foreign):
    hint: Short | None = None
    rawBytes: Short | None = None  # noqa: N815  (Sigstore's own spelling, as below; written by signers before 1.1, and not believed)
    keyDetails: Short | None = None  # noqa: N815


class _Certificate(Foreign):
    rawBytes: Annotated[str, StringConstraints(max_length=1 << 16)]  # noqa: N815


class _Chain(Foreign):
    certificates: Annotated[tuple[_Certificate, ...], Field(min_length=1, max_length=_MAX_CERTIFICATES)]


class _Material(Foreign):
    publicKey: _PublicKey | None = None  # noqa: N815
    x509CertificateChain: _Chain | None = None  # noqa: N815
    certificate: Any = None
    tlogEntries: tuple[Any, ...] = ()  # noqa: N815
    timestampVerificationData: Any = None  # noqa: N815


class _Signature(Foreign):
    sig: Short
    keyid: Short | None = None


class _Envelope(Foreign):
    payload: str
    payloadType: Short  # noqa: N815
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=1)]


class _Bundle(Foreign):
    mediaType: Short  # noqa: N815
    verificationMaterial: _Material  # noqa: N815
    dsseEnvelope: _Envelope  # noqa: N815


@dataclass(frozen=True)
class ModelSignature:
    """A signature's file that was read, and not verified (steps 1 and 2).

    Attributes:
        hint: the SHA-256 of the key's PEM, where a key signed and the file says which.
        certificates: where a certificate's key signed: it, and those above it, in DER.
    """

    payload: bytes
    signature: bytes
    hint: str | None
    certificates: tuple[bytes, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a signature's file. Raises `PackageError`."""
        # 1.
        if len(data) > MAX_SIGNATURE_BYTES:
            refuse(f"more than {MAX_SIGNATURE_BYTES} bytes")
        bundle = read_foreign(_Bundle, data, "the bundle")
        if bundle.mediaType != _BUNDLE:
            refuse(f"mediaType: a bundle of type {bundle.mediaType!r}, expected {_BUNDLE!r}")
        envelope, material = bundle.dsseEnvelope, bundle.verificationMaterial
        if envelope.payloadType != _PAYLOAD:
            refuse(f"payloadType: {envelope.payloadType!r}, expected {_PAYLOAD!r}")
        # 2.
        if material.certificate is not None or material.tlogEntries or material.timestampVerificationData:
            refuse(f"a keyless signature (Fulcio's certificate, Rekor's log), which is not read here: {_AGAIN}")
        key, chain = material.publicKey, material.x509CertificateChain
        if (key is None) == (chain is None):
            refuse("verificationMaterial: expected either publicKey or x509CertificateChain")
        return cls(
            payload=_from_base64(envelope.payload, "payload"),
            signature=_from_base64(envelope.signatures[0].sig, "sig"),
            hint=None if key is None else key.hint,
            certificates=()
            if chain is None
            else tuple(_from_base64(one.rawBytes, "rawBytes") for one in chain.certificates),
        )

    def statement(self, key: ec.EllipticCurvePublicKey) -> Statement:
        """Verify the signature under `key`, and read what was signed (steps 3 and 4). Raises `SignatureError` or `PackageError`."""
        # 3.
        own = hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        if self.hint not in {None, own}:
            message = (
                f"{SIGNATURE}: signed by another key, whose PEM has the SHA-256 {self.hint}; the one given has {own}"
            )
            raise SignatureError(message)
        _, algorithm = _curve(key)
        try:
            key.verify(self.signature, pre_authentication_encoding(_PAYLOAD, self.payload), ec.ECDSA(algorithm))
        except InvalidSignature as error:
            message = f"{SIGNATURE}: the signature does not verify under this key: another key's, or changed since"
            raise SignatureError(message) from error
        # 4.
        return read_statement(self.payload)


@dataclass(frozen=True)
class MadeBy:
    """A maker, and the signature's file that shows it."""

    maker: Maker
    data: bytes

    def statement(self) -> Statement:
        """Verify that the file is this maker's signature, and read what was signed. Raises `PackageError` or `SignatureError`.

        Of a certificate it is held that the file has it first, and that the key is its key. Its chain is the publisher's word.
        """
        maker = self.maker
        if (len(self.data), digest(self.data)) != (maker.signature.size, maker.signature.digest):
            message = f"{SIGNATURE}: not the signature that the manifest names"
            raise PackageDigestError(message)
        key = read_key(maker.key)
        if _curve(key)[0] != maker.algorithm:
            refuse(f"the manifest says {maker.algorithm} of a key on curve {key.curve.name}")
        read = ModelSignature.from_bytes(self.data)
        if (maker.certificate is None) != (not read.certificates):
            refuse("the manifest and the signature differ in whether a certificate vouches for the key")
        if maker.certificate is not None and (
            digest(read.certificates[0]) != maker.certificate or _key_of(read.certificates[0]) != maker.key
        ):
            refuse("its first certificate is not the one that the manifest names, or has another key")
        return read.statement(key)


def made_by(
    data: bytes,
    key: ec.EllipticCurvePublicKey,
    *,
    subject: str | None = None,
    certificate: str | None = None,
    root: str | None = None,
) -> MadeBy:
    """State whose signature `data` is. Raises `PackageError` for a key of another kind, or texts that no manifest takes."""
    try:
        maker = Maker(
            algorithm=_curve(key)[0],
            key=to_der(key),
            subject=subject,
            certificate=certificate,
            root=root,
            signature=BlobRef(digest=digest(data), size=len(data)),
        )
    except ValidationError as error:
        message = f"{SIGNATURE}: {first_error(error)}"
        raise PackageError(message) from error
    return MadeBy(maker, data)


def read_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """A public key from its one DER. Raises `PackageError`."""
    try:
        key = load_der_public_key(der)
    except Exception as error:  # whatever a parser makes of hostile bytes
        message = f"{SIGNATURE}: what the manifest calls its maker's key is none"
        raise PackageError(message) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or to_der(key) != der:
        refuse("what the manifest calls its maker's key is not on an elliptic curve, or oddly written")
    return key


def to_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key's one DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_of(certificate: bytes) -> bytes:
    try:
        return (
            load_der_x509_certificate(certificate)
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
    except Exception as error:  # as above
        message = f"{SIGNATURE}: x509CertificateChain: not a certificate"
        raise PackageError(message) from error


def _curve(key: ec.EllipticCurvePublicKey) -> tuple[Algorithm, HashAlgorithm]:
    found = _CURVES.get(key.curve.name)
    if found is None:
        refuse(f"a key on curve {key.curve.name}: Model Signing takes P-256, P-384 and P-521")
    return found


def _from_base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"{SIGNATURE}: {what}: not base64"
        raise PackageError(message) from error
    if base64.b64encode(data).decode() != text:
        refuse(f"{what}: base64 that could be written in another way")
    return data
