"""Whose signature lies beside a model's files: the publisher's question, before he signs the model himself.

The publisher hands in what he believes: the maker's public key, or a root certificate. Nobody else is asked, and no list of the
system's. Of a certificate it is held:

1. its chain leads to a root that was handed in, now, each certificate signed by the one above it (`attestation.chains`);
2. it is for signing: its key usage says digital signature, and its extended key usage, where there is one, code signing;
3. no certificate has a critical extension that is not read here;
4. it names the subject that the publisher asks for, where he asks.

What the signature then covers is `blindgate_models.model_signatures`'s to say. A signature has no time of its own that anybody
vouches for, so a chain that has ended since is refused: the maker signs again.

RFC 5280, section 4.2.
"""

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from blindgate.attestation.chains import fingerprint, read_certificate, read_pem, verify_chain
from blindgate_models.model_signatures import MadeBy, ModelSignature, made_by
from blindgate_models.model_statements import SIGNATURE, Statement
from blindgate_protocol.canonical import digest
from blindgate_protocol.errors import InputError, MalformedError, SignatureError
from blindgate_protocol.makers import Maker
from blindgate_protocol.values import Millis

MAX_KEY_FILE_BYTES: Final = 16 << 10
MAX_ROOTS_BYTES: Final = 256 << 10

_READ: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


def made_by_key(pem: bytes, signature: bytes) -> tuple[MadeBy, Statement]:
    """The maker whose public key `pem` is, if `signature` is his: and what he signed.

    Raises `InputError` for what is no key that Model Signing knows, `PackageError` or `SignatureError` for the signature.
    """
    try:
        key = load_pem_public_key(pem)
    except Exception as error:  # whatever a parser makes of bytes that are none
        message = "the signer's key: expected a public key in PEM (-----BEGIN PUBLIC KEY-----)"
        raise InputError(message) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        message = "the signer's key: not on an elliptic curve; keys on P-256, P-384 and P-521 are taken"
        raise InputError(message)
    read = ModelSignature.from_bytes(signature)
    if read.certificates:
        message = f"{SIGNATURE}: signed with a certificate: name a root that you believe (--signer-root), not a key"
        raise SignatureError(message)
    statement = read.statement(key)
    return made_by(signature, key), statement


def made_by_certificate(
    roots: bytes, signature: bytes, *, now: Millis, subject: str | None = None
) -> tuple[MadeBy, Statement]:
    """The maker whom a certificate under one of `roots` (PEM) names, if `signature` is his: and what he signed.

    `subject` is the name that he must have, as RFC 4514 writes it. Raises `InputError` for what are no roots, `PackageError` or
    `SignatureError` for the signature, its certificates included.
    """
    try:
        believed = [read_certificate(der) for der in read_pem(roots)]
    except MalformedError as error:
        message = f"the signer's root: {error}"
        raise InputError(message) from error
    read = ModelSignature.from_bytes(signature)
    if not read.certificates:
        message = f"{SIGNATURE}: signed by a bare key: name that (--signer-key), not a root"
        raise SignatureError(message)
    try:
        chain = [read_certificate(der) for der in read.certificates]
        root = _root_of(chain, believed)
        # 1.
        if fingerprint(chain[-1]) != fingerprint(root):
            chain.append(root)
        verify_chain(chain[::-1], {fingerprint(one): "" for one in believed}, at=now)
    except MalformedError as error:
        message = f"{SIGNATURE}: {error}"
        raise SignatureError(message) from error
    leaf = chain[0]
    named = leaf.subject.rfc4514_string()
    _check_usage(leaf)  # 2.
    for one in chain:  # 3.
        _check_critical(one)
    if subject not in {None, named}:  # 4.
        message = f"{SIGNATURE}: signed by {named!r}, expected {subject!r}"
        raise SignatureError(message)
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        message = f"{SIGNATURE}: the key of {named!r} is not on an elliptic curve"
        raise SignatureError(message)
    statement = read.statement(key)
    made = made_by(
        signature,
        key,
        subject=named,
        certificate=digest(read.certificates[0]),
        root=f"sha256:{fingerprint(root)}",
    )
    return made, statement


def describe(maker: Maker) -> str:
    """A maker, for people."""
    key = f"{maker.algorithm} key {digest(maker.key)}"
    return key if maker.subject is None else f"{maker.subject}, {key}, under the root {maker.root}"


def _root_of(chain: Sequence[x509.Certificate], believed: Sequence[x509.Certificate]) -> x509.Certificate:
    last = chain[-1]
    for root in believed:
        if fingerprint(root) == fingerprint(last):
            return root
    for root in believed:
        if root.subject == last.issuer:
            return root
    message = (
        f"{SIGNATURE}: its chain ends below {last.issuer.rfc4514_string()!r}, and the roots given are "
        + ", ".join(repr(root.subject.rfc4514_string()) for root in believed)
    )
    raise SignatureError(message)


def _check_usage(leaf: x509.Certificate) -> None:
    usage = extended = None
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.KeyUsage):
            usage = extension.value
        elif isinstance(extension.value, x509.ExtendedKeyUsage):
            extended = extension.value
    if (
        (usage is None and extended is None)
        or (usage is not None and not usage.digital_signature)
        or (extended is not None and ExtendedKeyUsageOID.CODE_SIGNING not in extended)
    ):
        message = f"{SIGNATURE}: the certificate of {leaf.subject.rfc4514_string()!r} is not for signing code"
        raise SignatureError(message)


def _check_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _READ:
            message = (
                f"{SIGNATURE}: the certificate of {certificate.subject.rfc4514_string()!r} has the critical extension "
                f"{extension.oid.dotted_string}, which is not read here"
            )
            raise SignatureError(message)
