"""A TDX quote as bytes: where its parts lie, and whether they were signed by a platform that Intel certified.

A quote names its own signers, each by the next. The guest's report is signed by an attestation key that the machine's quoting
enclave made; the enclave's report binds that key and is signed by the platform's certification key (PCK); that key's certificate
leads to Intel's root. `read_quote` finds the parts, and `check_signatures` holds:

1. the chain of certificates in the quote ends in a root that is pinned, and its first certificate is one of a platform;
2. the platform's key signed the quoting enclave's report;
3. that report binds the attestation key: its report data is SHA-256 of key and authentication data, and zeros;
4. the attestation key signed the header and the guest's report.

Nothing is read here that is not needed for that, and no length is believed before it is compared with what is there. What lies
behind the signatures must be zeros: quoting services hand out their whole buffer.

Sources: Intel TDX DCAP Quoting Library API, appendix A (quotes of version 4 and 5); Intel SGX PCK Certificate and CRL Profile
Specification (the platform's certificate); Intel TDX Module ABI Reference, TDREPORT_STRUCT and TDINFO_STRUCT; Intel's
`sgx_quote_5.h` (the third kind of body).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from blindgate.attestation.chains import ChainError, read_certificate, read_pem, verify_chain
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.values import Millis

MAX_QUOTE_BYTES: Final = 32 << 10
HEADER_BYTES: Final = 48
VERSIONS: Final = (3, 4, 5)
SGX, TDX = 0x00, 0x81
ECDSA_P256: Final = 2
KEY_TYPES: Final = (ECDSA_P256, 3)

_BODY_BYTES: Final[Mapping[int, int]] = {2: 584, 3: 648, 4: 885}
"""Of a quote of version 5, by its kind of body: a report of TDX 1.0, of 1.5, and of 1.5 with the domain's identity and history."""
_QE_REPORT_BYTES: Final = 384
_QE_REPORT_DATA: Final = slice(320, 384)
_QE_REPORT_INSIDE, _PCK_CHAIN = 6, 5
_PLATFORM_EXTENSION: Final = "1.2.840.113741.1.13.1"

FIELDS: Final[tuple[tuple[str, int], ...]] = (
    ("tee_tcb_svn", 16),
    ("mrseam", 48),
    ("mrsignerseam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mrtd", 48),
    ("mrconfigid", 48),
    ("mrowner", 48),
    ("mrownerconfig", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
    # TDX 1.5 adds:
    ("tee_tcb_svn2", 16),
    ("mrservicetd", 48),
    # Newer modules of TDX 1.5 add, for a domain that was set up with an identity, who it is, and where it and its service domains
    # began:
    ("vmid", 1),
    ("td_id", 32),
    ("devinfo", 48),
    ("init_servicetd_hash", 48),
    ("init_servicetd_attributes", 8),
    ("init_cpu_svn", 16),
    ("init_tee_tcb_svn", 16),
    ("init_tee_fmspc", 12),
    ("cur_servicetd_hash", 48),
    ("cur_servicetd_attributes", 8),
)
"""The guest's report: names in the order in which they lie, and how many bytes each has."""


class QuoteError(MalformedError):
    """A quote that is none, or that nobody signed.

    Attributes:
        rule: which rule does not hold: `form` or `signature`, or one of `ChainError`'s.
    """

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Header:
    """How a quote begins."""

    version: int
    key_type: int
    tee_type: int


@dataclass(frozen=True, slots=True)
class Quote:
    """The parts of a TDX quote.

    Attributes:
        signed: header and body, which the attestation key signed.
        body: the guest's report, of 584, 648 or 885 bytes.
        key: the attestation key, X and Y of a point on P-256.
        enclave: the quoting enclave's report, of 384 bytes.
        chain: the platform's certificates as they lie in the quote: PEM, the platform's own first.
    """

    header: Header
    signed: bytes
    body: bytes
    signature: bytes
    key: bytes
    enclave: bytes
    enclave_signature: bytes
    authentication: bytes
    chain: bytes

    def fields(self) -> dict[str, bytes]:
        """The guest's report by names."""
        found, at = {}, 0
        for name, size in FIELDS:
            if at < len(self.body):
                found[name] = self.body[at : at + size]
            at += size
        return found


def read_header(data: bytes) -> Header | None:
    """How a quote begins, or `None` where this is the beginning of none."""
    if len(data) < HEADER_BYTES:
        return None
    made = Header(*(int.from_bytes(data[a:b], "little") for a, b in ((0, 2), (2, 4), (4, 8))))
    known = made.version in VERSIONS and made.key_type in KEY_TYPES and made.tee_type in {SGX, TDX}
    return made if known else None


def read_quote(data: bytes) -> Quote:
    """Find the parts of a TDX quote of version 4 or 5. Raises `QuoteError`."""
    if len(data) > MAX_QUOTE_BYTES:
        raise _form(f"a quote of {len(data)} bytes: at most {MAX_QUOTE_BYTES}")
    header = read_header(data)
    if header is None or header.tee_type != TDX or header.version not in {4, 5}:
        raise _form("no TDX quote of version 4 or 5")
    if header.key_type != ECDSA_P256:
        raise _form(f"the attestation key is of type {header.key_type}: {ECDSA_P256} (ECDSA on P-256) is what is known")
    parts = _Parts(data, "the quote")
    parts.take(HEADER_BYTES)
    size = _BODY_BYTES[2]
    if header.version == 5:  # noqa: PLR2004  (from which on a quote says what its body is)
        kind, said = parts.number(2), parts.number(4)
        if kind not in _BODY_BYTES or said != _BODY_BYTES[kind]:
            known = ", ".join(f"{one} with {many}" for one, many in _BODY_BYTES.items())
            raise _form(f"the body is of type {kind} with {said} bytes: {known} is what is known")
        size = said
    body = parts.take(size)
    signed = data[: parts.at]
    inside = _Parts(parts.counted(4), "the quote's signatures")
    if data[parts.at :].strip(b"\0"):
        raise _form(f"the quote ends at byte {parts.at}, and something other than zeros follows")
    signature, key = inside.take(64), inside.take(64)
    certified = _Parts(_certification(inside, _QE_REPORT_INSIDE), "the quoting enclave's part")
    enclave, enclave_signature = certified.take(_QE_REPORT_BYTES), certified.take(64)
    authentication = certified.counted(2)
    chain = _certification(certified, _PCK_CHAIN)
    return Quote(header, signed, body, signature, key, enclave, enclave_signature, authentication, chain)


def check_signatures(quote: Quote, roots: Mapping[str, str], *, at: Millis) -> tuple[str, bytes]:
    """Decide whether a platform that one of `roots` certifies signed the quote.

    Gives the root's name and its certificate in DER. Raises `QuoteError`.
    """
    # 1.
    try:
        ders = read_pem(quote.chain.rstrip(b"\0"))
        chain = [read_certificate(one) for one in reversed(ders)]
        root = verify_chain(chain, roots, at=at)
    except ChainError as error:
        raise QuoteError(f"the platform's certificates: {error}", rule=error.rule) from error
    platform = chain[-1]
    if not any(one.oid.dotted_string == _PLATFORM_EXTENSION for one in platform.extensions):
        raise QuoteError(f"{platform.subject.rfc4514_string()} is no platform's certificate", rule="chain")
    # 2.
    _check(platform, quote.enclave_signature, quote.enclave, "the quoting enclave's report", "the platform's key")
    # 3.
    bound = hashlib.sha256(quote.key + quote.authentication).digest().ljust(64, b"\0")
    if quote.enclave[_QE_REPORT_DATA] != bound:
        raise QuoteError(
            "the quoting enclave's report binds another attestation key than the quote's", rule="signature"
        )
    # 4.
    x, y = (int.from_bytes(half, "big") for half in (quote.key[:32], quote.key[32:]))
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError as error:
        raise QuoteError("the attestation key is no point on P-256", rule="signature") from error
    _check(key, quote.signature, quote.signed, "the guest's report", "the attestation key")
    return root, ders[-1]


def _check(
    signer: x509.Certificate | ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str, whose: str
) -> None:
    key = signer.public_key() if isinstance(signer, x509.Certificate) else signer
    pair = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    message = f"the signature of {what} does not verify under {whose}"
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise QuoteError(message, rule="signature")
    try:
        key.verify(pair, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise QuoteError(message, rule="signature") from error


def _certification(parts: "_Parts", kind: int) -> bytes:
    found = parts.number(2)
    if found != kind:
        raise _form(f"{parts.name} has certification data of type {found}: {kind} is what is known")
    made = parts.counted(4)
    if parts.at != len(parts.data):
        raise _form(f"{parts.name} ends at byte {parts.at} of {len(parts.data)}, and something follows")
    return made


def _form(message: str) -> QuoteError:
    return QuoteError(message, rule="form")


class _Parts:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.at = data, name, 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise _form(f"{self.name} has {len(self.data)} bytes, and {size} more are said to follow byte {self.at}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def counted(self, size: int) -> bytes:
        """What follows its own length, which has `size` bytes."""
        return self.take(self.number(size))
