"""A GPU of our own, under a root of our own: for reports that no real one would sign. A test pins the root knowingly."""

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FIRMWARE = b"\x0f" * 48
NONCE = bytes(range(32))
ANSWERED = datetime(2026, 11, 26, tzinfo=UTC)
FIELDS = {3: b"590.12\0", 6: bytes.fromhex("00a5009601000000"), 20: FIRMWARE}


def blocks(*values: bytes) -> bytes:
    """A record of measurements, from 1."""
    return b"".join(
        bytes([index, 1]) + (len(value) + 3).to_bytes(2, "little") + b"\1" + len(value).to_bytes(2, "little") + value
        for index, value in enumerate(values, 1)
    )


def packed(fields: dict[int, bytes]) -> bytes:
    """NVIDIA's fields."""
    return b"".join(
        number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for number, value in fields.items()
    )


def packed_newer(fields: dict[int, bytes], *, profile: int = 0, version: int = 2) -> bytes:
    """NVIDIA's fields in their newer form: each says what kind of value it has."""
    head = b"NVDAOD" + profile.to_bytes(2, "little") + bytes([version, 0, 0, 0])
    return head + b"".join(
        number.to_bytes(2, "little") + b"\x86\0" + len(value).to_bytes(2, "little") + value
        for number, value in fields.items()
    )


def tcb_info(*, flags: int | bytes = 0, firmware: bytes = FIRMWARE, fwid: bytes | None = None) -> bytes:
    """DiceTcbInfo with one FWID, SHA-384, and the first eight flags; or with other bytes in the place of either."""
    if fwid is None:
        fwid = der(0x30, b"\x06\x09" + bytes.fromhex("608648016503040202") + der(0x04, firmware))
    return der(0x30, der(0xA6, fwid) + der(0x87, bytes([0, flags]) if isinstance(flags, int) else flags))


def der(tag: int, value: bytes) -> bytes:
    """Fewer than 128 bytes behind their tag and length."""
    return bytes([tag, len(value)]) + value


@dataclass
class MadeGpu:
    """A root, and one key below it that signs reports.

    Attributes:
        name: the certificate's common name.
        extension: DiceTcbInfo, under the number `extension_id`.
        authority: whether the key's certificate says that it signs certificates.
        curve: of the key; `None`: it is of Ed25519.
    """

    name: str = "GB100 A01 GSP FMC LF"
    extension: bytes = field(default_factory=tcb_info)
    extension_id: str = "2.23.133.5.4.1.1"
    authority: bool = False
    curve: ec.EllipticCurve | None = field(default_factory=ec.SECP384R1)

    def __post_init__(self) -> None:
        self._root = ec.generate_private_key(ec.SECP384R1())
        self._key = ed25519.Ed25519PrivateKey.generate() if self.curve is None else ec.generate_private_key(self.curve)
        self.root = self._certify("a root of our own", self._root, authority=True)
        self.leaf = self._certify(self.name, self._key, authority=self.authority, extension=self.extension)

    def report(
        self,
        *,
        fields: dict[int, bytes] | bytes = FIELDS,
        record: bytes | None = None,
        number: int = 2,
        nonce: bytes = NONCE,
    ) -> bytes:
        """A signed report."""
        record = blocks(b"\1" * 48, b"\2" * 48) if record is None else record
        opaque = fields if isinstance(fields, bytes) else packed(fields)
        signed = b"\x11\xe0\x01\xff" + nonce + b"\0"
        signed += b"\x11\x60\0\0" + bytes([number]) + len(record).to_bytes(3, "little") + record
        signed += b"\x55" * 32 + len(opaque).to_bytes(2, "little") + opaque
        r, s = 1, 1
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA384())))
        return signed + r.to_bytes(48) + s.to_bytes(48)

    def entry(self, report: bytes | None = None, **said: str) -> dict[str, str]:
        """As NVIDIA's SDK writes one GPU's evidence."""
        pem = self.leaf.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM)
        made = {
            "arch": "BLACKWELL",
            "evidence": base64.b64encode(self.report() if report is None else report).decode(),
            "certificate": base64.b64encode(pem).decode(),
            "nonce": NONCE.hex(),
        }
        return made | said

    def evidence(self, report: bytes | None = None, **said: str) -> bytes:
        """A file with one GPU's evidence."""
        return json.dumps([self.entry(report, **said)]).encode()

    def answer(
        self,
        *,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        reason: x509.ReasonFlags | None = None,
        begin: datetime = ANSWERED,
        end: datetime | None = ANSWERED + timedelta(days=1),
        about: x509.Certificate | None = None,
        issuer: x509.Certificate | None = None,
        by: str = "a responder",
        digest: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """The responder's answer about the key's certificate, or `about` another, of another `issuer`.

        It is signed `by` a responder, one of another use or kind, or of no use, or the root.
        """
        uses = {"another use": ExtendedKeyUsageOID.SERVER_AUTH}
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = self._root
        signer = self.root
        if by != "the root":
            of_another_kind = by == "Ed25519"
            key = ed25519.Ed25519PrivateKey.generate() if of_another_kind else ec.generate_private_key(ec.SECP384R1())
            use = None if by == "no use" else uses.get(by, ExtendedKeyUsageOID.OCSP_SIGNING)
            signer = self._certify("a responder", key, authority=False, use=use)
        made = ocsp.OCSPResponseBuilder().add_response(
            cert=about or self.leaf,
            issuer=issuer or self.root,
            algorithm=hashes.SHA256(),
            cert_status=status,
            this_update=begin,
            next_update=end,
            revocation_time=begin if status is ocsp.OCSPCertStatus.REVOKED else None,
            revocation_reason=reason,
        )
        made = made.responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
        made = made if by == "the root" else made.certificates([signer])
        of_curve = isinstance(key, ec.EllipticCurvePrivateKey)
        return made.sign(key, digest or hashes.SHA384() if of_curve else None).public_bytes(Encoding.DER)

    def _certify(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
        *,
        authority: bool,
        extension: bytes = b"",
        use: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a root of our own")])
        usage = {
            "key_cert_sign": authority,
            "digital_signature": not authority,
            "crl_sign": False,
            "content_commitment": False,
        }
        usage |= {"key_encipherment": False, "data_encipherment": False, "key_agreement": False}
        made = (
            x509.CertificateBuilder(issuer)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2024, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2034, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), critical=True)
        )
        if extension:
            made = made.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(self.extension_id), extension), critical=False
            )
        if use is not None:
            made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=True)
        return made.sign(self._root, hashes.SHA384())
