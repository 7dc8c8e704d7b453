"""Certificates: which key a chain leads to from a pinned root, at a time.

Platforms' chains are short and straight: from the root down to the key that signed the evidence, each signed by the one before. No
name is looked up, no address is asked, and revocation is not decided here.

`verify_chain` decides:

1. the first certificate is a root that is pinned, by the SHA-256 of its DER, and signs itself;
2. each other one is signed by the one before it, which may sign certificates (basic constraints, key usage, path length) and bears
   the name that it calls its issuer;
3. the time lies within each one's validity.

RFC 5280, sections 4.2.1 and 6.1, as far as such chains need it.
"""

import hashlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from blindgate_protocol.errors import MalformedError
from blindgate_protocol.values import Millis

MAX_CERTIFICATE_BYTES = 16 << 10
MOST_CERTIFICATES = 12
_YEAR_9999 = 253_370_764_800_000
_LEAST_DIGEST = 32
"""SHA-256 and longer; SHA-1 signs nothing here."""
_DER = Encoding.DER


class ChainError(MalformedError):
    """A chain of certificates that leads to nothing.

    Attributes:
        rule: which rule does not hold: `form`, `root`, `chain` or `validity`.
    """

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


def read_certificate(data: bytes) -> x509.Certificate:
    """A certificate in DER. Raises `ChainError`."""
    if len(data) > MAX_CERTIFICATE_BYTES:
        message = f"a certificate of {len(data)} bytes: at most {MAX_CERTIFICATE_BYTES}"
        raise ChainError(message, rule="form")
    try:
        with _any_serial_number():
            made = x509.load_der_x509_certificate(data)
        # Each is parsed when it is asked for.
        made.public_key(), made.extensions, made.subject, made.issuer, made.signature_hash_algorithm
    except Exception as error:  # whatever a parser makes of hostile bytes
        message = f"not a certificate: {type(error).__name__}"
        raise ChainError(message, rule="form") from error
    return made


def read_pem(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM file, or the one of a DER file, in DER. Raises `ChainError`."""
    if len(data) > MAX_CERTIFICATE_BYTES * MOST_CERTIFICATES * 2:
        message = f"a file of certificates of {len(data)} bytes"
        raise ChainError(message, rule="form")
    if b"-----BEGIN" not in data:
        return (read_certificate(data).public_bytes(_DER),)
    try:
        with _any_serial_number():
            found = x509.load_pem_x509_certificates(data)
    except Exception as error:  # as above
        message = f"not a file of certificates: {type(error).__name__}"
        raise ChainError(message, rule="form") from error
    if len(found) > MOST_CERTIFICATES:
        message = f"a chain of {len(found)} certificates: at most {MOST_CERTIFICATES}"
        raise ChainError(message, rule="form")
    return tuple(one.public_bytes(_DER) for one in found)


@contextmanager
def _any_serial_number() -> Iterator[None]:
    # AMD gives the certificates of all chips the serial number 0, which is warned of. Nothing here reads a serial number.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parsed a serial number", CryptographyDeprecationWarning)
        yield


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER, in hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(_DER)).hexdigest()


def common_name(certificate: x509.Certificate) -> str:
    """What the certificate calls its holder; `no name` where it does not."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else "no name"


def verify_chain(chain: Sequence[x509.Certificate], roots: Mapping[str, str], *, at: Millis | None) -> str:
    """Decide whether a chain, root first, leads from one of the `roots` (names by fingerprint) to its last certificate.

    Gives the root's name. `at` is `None` where only signatures are to be held. Raises `ChainError`.
    """
    if not 1 <= len(chain) <= MOST_CERTIFICATES:
        message = f"a chain of {len(chain)} certificates: 1 to {MOST_CERTIFICATES}"
        raise ChainError(message, rule="form")
    # 1.
    root = roots.get(fingerprint(chain[0]))
    if root is None:
        message = (
            f"the chain begins with {_name(chain[0])} (SHA-256 {fingerprint(chain[0])}), which is no root that is known"
        )
        raise ChainError(message, rule="root")
    # 2.
    _check_signed(chain[0], chain[0])
    for place, (above, below) in enumerate(itertools.pairwise(chain)):
        _check_may_sign(above, below=len(chain) - place - 2)
        _check_signed(below, above)
    # 3.
    if at is not None:
        for one in chain:
            check_validity(one, at)
    return root


def check_validity(certificate: x509.Certificate, at: Millis) -> None:
    """Decide whether the time lies within the certificate's validity. Raises `ChainError`."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin.timestamp() * 1000 <= at <= end.timestamp() * 1000:
        when = datetime.fromtimestamp(min(at, _YEAR_9999) / 1000, UTC)
        valid = f"is valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
        message = f"{_name(certificate)} {valid}, and not on {when:%Y-%m-%d %H:%M}"
        raise ChainError(message, rule="validity")


def may_sign_messages(certificate: x509.Certificate) -> bool:
    """Whether the certificate's key is for signing something other than certificates, and not an authority's."""
    usage = [one.value for one in certificate.extensions if isinstance(one.value, x509.KeyUsage)]
    constraints = [one.value for one in certificate.extensions if isinstance(one.value, x509.BasicConstraints)]
    return any(one.digital_signature for one in usage) and not any(one.ca for one in constraints)


def _check_may_sign(certificate: x509.Certificate, *, below: int) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        message = f"{_name(certificate)} does not say that it may sign certificates"
        raise ChainError(message, rule="chain") from error
    if not constraints.ca or not usage.key_cert_sign:
        message = f"{_name(certificate)} may not sign certificates"
        raise ChainError(message, rule="chain")
    if constraints.path_length is not None and below > constraints.path_length:
        message = f"{_name(certificate)} may have {constraints.path_length} authorities below it, and has {below}"
        raise ChainError(message, rule="chain")


def _check_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    if certificate.issuer != issuer.subject:
        named = certificate.issuer.rfc4514_string()
        message = f"{_name(certificate)} names {named} as its issuer, and stands below {_name(issuer)}"
        raise ChainError(message, rule="chain")
    _check_beside(certificate)
    if not _is_signed(certificate, issuer):
        message = f"the signature of {_name(certificate)} does not verify under {_name(issuer)}"
        raise ChainError(message, rule="chain")


def _check_beside(certificate: x509.Certificate) -> None:
    """What stands beside the signed part has one form only, so that a certificate that was changed there is not taken for it."""
    behind = certificate.public_bytes(_DER).partition(certificate.tbs_certificate_bytes)[2]
    # An algorithm has fewer than 128 bytes, so that one byte tells its length. RFC 5280, section 4.1.1.2: it is the one inside.
    algorithm = behind[: 2 + behind[1]]
    # Whole bytes, which a bit string says by a zero before them.
    if algorithm not in certificate.tbs_certificate_bytes or not behind.endswith(b"\0" + certificate.signature):
        message = f"{_name(certificate)} has another algorithm beside its signature than in what is signed, or odd bits"
        raise ChainError(message, rule="chain")


def _is_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        algorithm, scheme = certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters
        if algorithm is None or algorithm.digest_size < _LEAST_DIGEST:
            return False
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(scheme, ec.ECDSA):
            key.verify(signature, signed, scheme)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(scheme, (padding.PSS, padding.PKCS1v15)):
            key.verify(signature, signed, scheme, algorithm)
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"the certificate {certificate.serial_number:x}"
