"""A platform with TDX that a test owns: its own root in Intel's place, so that it can sign what no genuine platform would.

Quotes and collateral have the form of genuine ones; the keys are made here, and nobody trusts the root who was not told to.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MILLIS: Final = int(NOW.timestamp() * 1000)
LATER: Final = NOW + timedelta(days=30)
SEPT_VE_DISABLE: Final = 1 << 28
_QE_SIGNER: Final = bytes(range(32))
_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""Intel's, by which a quote's header says whose quoting enclave made it."""
_FMSPC: Final = bytes.fromhex("90c06f000000")
_SVN: Final = 3
_OID: Final = bytes.fromhex("2a864886f84d010d01")
"""1.2.840.113741.1.13.1, under which a platform's certificate says which platform it is."""


@dataclass
class Signer:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        """The certificate as in a quote."""
        return self.certificate.public_bytes(Encoding.PEM)

    def sign(self, data: bytes) -> bytes:
        """R and S, 32 bytes each."""
        return _sign(self.key, data)


@dataclass
class Platform:
    """Its chain of signers; the collateral that fits it is made beside its quotes.

    Attributes:
        revoked: whether the collateral's list has its certificate.
        extension: what its certificate says of the platform, where that is not `platform_extension`; `None` for a certificate of
            no platform.
    """

    root: Signer = field(default_factory=lambda: _certify("Intel SGX Root CA", None, authority=True))
    revoked: bool = False
    extension: bytes | None = b""

    def __post_init__(self) -> None:
        """Certify the authority, the platform and the signer of TCB information."""
        self.authority = _certify("Intel SGX PCK Platform CA", self.root, authority=True)
        said = platform_extension() if self.extension == b"" else self.extension
        self.pck = _certify("Intel SGX PCK Certificate", self.authority, extension=said)
        self.tcb = _certify("Intel SGX TCB Signing", self.root)

    @property
    def roots(self) -> Mapping[str, str]:
        """As `roots.INTEL` would have it."""
        return {hashlib.sha256(self.root_der).hexdigest(): "a test's root"}

    @property
    def root_der(self) -> bytes:
        """The root's certificate."""
        return self.root.certificate.public_bytes(Encoding.DER)

    def quote(
        self,
        *,
        version: int = 4,
        attributes: int = SEPT_VE_DISABLE,
        fields: Mapping[str, bytes] | None = None,
        pck: Signer | None = None,
        identified: bool = False,
        enclave: Mapping[int, bytes] | None = None,
        vendor: bytes = _VENDOR,
        bound: bytes | None = None,
    ) -> bytes:
        """A quote that is signed. `fields` are what differs in the guest's report; TDX 1.5's in version 5 alone.

        `identified`: the domain has an identity, which a third kind of body in version 5 tells. `enclave`: what is written over the
        quoting enclave's report, by place, before it is signed; `vendor`: whose it is, by the header.
        `bound`: the attestation key that it binds, which did not sign.
        """
        said: dict[str, bytes] = {
            "tee_tcb_svn": bytes([_SVN]).ljust(16, b"\0"),
            "mrseam": b"\x05" * 48,
            "mrsignerseam": bytes(48),
            "seam_attributes": bytes(8),
            "td_attributes": attributes.to_bytes(8, "little"),
            "xfam": bytes.fromhex("e702060000000000"),
            "mrtd": b"\x0d" * 48,
            "mrconfigid": bytes(48),
            "mrowner": bytes(48),
            "mrownerconfig": bytes(48),
            **{f"rtmr{number}": bytes([number + 1]) * 48 for number in range(4)},
            "report_data": b"\x11" * 64,
        }
        if version == 5:
            said |= {"tee_tcb_svn2": bytes([_SVN]).ljust(16, b"\0"), "mrservicetd": bytes(48)}
        if identified:
            said |= {"vmid": b"\2", "td_id": bytes(range(32)), "devinfo": bytes(48)}
            said |= {"init_servicetd_hash": bytes(48), "init_servicetd_attributes": bytes(8), "init_cpu_svn": bytes(16)}
            said |= {"init_tee_tcb_svn": bytes(16), "init_tee_fmspc": bytes(12)}
            said |= {"cur_servicetd_hash": bytes(48), "cur_servicetd_attributes": bytes(8)}
        body = b"".join((said | dict(fields or {})).values())
        kind = (4 if identified else 3).to_bytes(2, "little") + len(body).to_bytes(4, "little") if version == 5 else b""
        header = b"".join(number.to_bytes(size, "little") for number, size in ((version, 2), (2, 2), (0x81, 4), (0, 4)))
        header += vendor + bytes(20)
        attestation = ec.generate_private_key(ec.SECP256R1())
        numbers = attestation.public_key().public_numbers()
        key = bound or numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        signed, authentication, platform = header + kind + body, bytes(range(32)), pck or self.pck
        report = _enclave(hashlib.sha256(key + authentication).digest(), enclave or {})
        chain = platform.pem() + self.authority.pem() + self.root.pem() + b"\0"
        certified = report + platform.sign(report) + _counted(authentication, 2) + b"\5\0" + _counted(chain, 4)
        return signed + _counted(_sign(attestation, signed) + key + b"\6\0" + _counted(certified, 4), 4)

    def collateral(
        self,
        *,
        status: str = "UpToDate",
        advisories: Sequence[str] = (),
        identity: Mapping[str, Any] | None = None,
        **differs: Any,
    ) -> bytes:
        """What Intel would say of the platform; `differs` are members of the TCB information, `identity` of the enclave's."""
        svns = [{"svn": _SVN}] * 16
        level = {"sgxtcbcomponents": svns, "tdxtcbcomponents": [{"svn": _SVN}] + [{"svn": 0}] * 15, "pcesvn": 11}
        dates = {"issueDate": _date(NOW - timedelta(days=1)), "nextUpdate": _date(LATER), "tcbEvaluationDataNumber": 17}
        tcb = {
            "id": "TDX",
            "version": 3,
            **dates,
            "fmspc": _FMSPC.hex(),
            "pceId": "0000",
            "tcbType": 0,
            "tdxModule": {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "ff" * 8},
            "tdxModuleIdentities": [],
            "tcbLevels": [
                {
                    "tcb": level,
                    "tcbDate": _date(NOW - timedelta(days=300)),
                    "tcbStatus": status,
                    "advisoryIDs": list(advisories),
                }
            ],
        }
        enclave = {
            "id": "TD_QE",
            "version": 2,
            **dates,
            "miscselect": "00000000",
            "miscselectMask": "ffffffff",
            "attributes": "11" + "00" * 15,
            "attributesMask": "fbffffffffffffff" + "00" * 8,
            "mrsigner": _QE_SIGNER.hex(),
            "isvprodid": 2,
            "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": _date(NOW - timedelta(days=300)), "tcbStatus": "UpToDate"}],
        }
        said_of = {"tcb_info": tcb | differs, "qe_identity": enclave | dict(identity or {})}
        signed = {name: json.dumps(said) for name, said in said_of.items()}
        issuers = (self.tcb.pem() + self.root.pem()).decode()
        made = {
            **signed,
            **{f"{name}_signature": self.tcb.sign(said.encode()).hex() for name, said in signed.items()},
            **{f"{name}_issuer_chain": issuers for name in signed},
            "root_ca_crl": _revocations(self.root, []).hex(),
            "pck_crl": _revocations(self.authority, [self.pck] if self.revoked else []).hex(),
            "pck_crl_issuer_chain": (self.authority.pem() + self.root.pem()).decode(),
        }
        return json.dumps(made).encode()


def _enclave(bound: bytes, changes: Mapping[int, bytes]) -> bytes:
    """The quoting enclave's report."""
    attributes = b"\x11".ljust(16, b"\0")
    front = bytes(16) + bytes(4) + bytes(28) + attributes + b"\x0e" * 32 + bytes(32) + _QE_SIGNER + bytes(96)
    report = bytearray(front + (2).to_bytes(2, "little") + (6).to_bytes(2, "little") + bytes(60) + bound + bytes(32))
    for place, value in changes.items():
        report[place : place + len(value)] = value
    return bytes(report)


def _certify(name: str, by: Signer | None, *, authority: bool = False, extension: bytes | None = None) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuing = (by.certificate.subject, by.key) if by else (subject, key)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=365))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_usage(authority=authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key()), critical=False)
    )
    if extension is not None:
        oid = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
        made = made.add_extension(x509.UnrecognizedExtension(oid, extension), critical=False)
    return Signer(made.sign(issuing, hashes.SHA256()), key)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _revocations(by: Signer, revoked: Sequence[Signer]) -> bytes:
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(NOW - timedelta(days=1))
        .next_update(LATER)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
        made = made.add_revoked_certificate(entry.revocation_date(NOW - timedelta(days=2)).build())
    return made.sign(by.key, hashes.SHA256()).public_bytes(Encoding.DER)


def platform_extension() -> bytes:
    """Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5, as far as verifiers read it."""

    def entry(*path: int, value: bytes) -> bytes:
        return _der(0x30, _der(0x06, _OID + bytes(path)) + value)

    svns = b"".join(entry(2, number, value=_der(0x02, bytes([_SVN]))) for number in range(1, 17))
    svns += entry(2, 17, value=_der(0x02, bytes([11]))) + entry(2, 18, value=_der(0x04, bytes([_SVN]) * 16))
    return _der(
        0x30,
        entry(1, value=_der(0x04, b"\xab" * 16))
        + entry(2, value=_der(0x30, svns))
        + entry(3, value=_der(0x04, bytes(2)))
        + entry(4, value=_der(0x04, _FMSPC))
        + entry(5, value=_der(0x0A, b"\1")),
    )


def _der(tag: int, value: bytes) -> bytes:
    size = len(value)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + value


def _counted(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "little") + data


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return b"".join(
        half.to_bytes(32, "big") for half in decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    )


def _date(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
