"""A maker of SNP machines beside AMD: a root of its own, keys below it as AMD's are, and reports that say whatever a test wants.

Real reports show what AMD's firmware writes. What it never writes, such as a TCB above the one that runs, and machines of which
there is no recording here (Turin), are written by this one. Its root is believed only where a test pins it.
"""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from blindgate.attestation.chains import fingerprint

MADE = datetime(2026, 1, 1, tzinfo=UTC)
ARC = "1.3.6.1.4.1.3704.1"
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)


class SnpMaker:
    """Root and intermediates of one generation.

    Attributes:
        product: such as `Turin`, as AMD's names of certificates have it.
    """

    def __init__(self, product: str) -> None:
        self.product = product
        self.root = _authority(f"ARK-{product}", f"ARK-{product}", _rsa(0), _rsa(0), below=None)
        self.between = {
            "VCEK": _authority(f"SEV-{product}", f"ARK-{product}", _rsa(1), _rsa(0), below=0),
            "VLEK": _authority(f"SEV-VLEK-{product}", f"ARK-{product}", _rsa(2), _rsa(0), below=0),
        }
        self.key = ec.generate_private_key(ec.SECP384R1())

    @property
    def pins(self) -> dict[str, str]:
        """What a test pins, to believe this maker."""
        return {fingerprint(self.root): self.product}

    def leaf(
        self,
        kind: str,
        levels: dict[int, int],
        *,
        hardware_id: bytes = b"",
        named: str = "",
        below: str = "",
        issuer: str | None = None,
        key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None = None,
        **more: bytes,
    ) -> x509.Certificate:
        """The certificate of the key that signs reports.

        `levels` are by the last number of their extension; `more` are raw extensions by `e` and their number under AMD's arc.
        `issuer` is named in the place of the one that signs it (empty: none is), and `key` stands in the place of the reports'.
        """
        below = below or kind
        named_issuer = self.between[below].subject if issuer is None else _name(issuer)
        name = (named or self.product).encode()
        said = {"e1": b"\x02\x01\x00", "e2": b"\x16" + bytes([len(name)]) + name}
        said |= {"e4": hardware_id} if kind == "VCEK" else {"e5": b"\x16\x07CN=test"}
        said |= {f"e3.{number}": _integer(level) for number, level in levels.items()} | more
        made = (
            _certificate(f"SEV-{kind}", named_issuer, key or self.key.public_key())
            .serial_number(7)
            .not_valid_after(MADE + timedelta(days=2555))
        )
        for number, value in said.items():
            made = made.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{ARC}.{number[1:]}"), value), critical=False
            )
        return made.sign(_rsa(1 if below == "VCEK" else 2), hashes.SHA384(), rsa_padding=_PSS)

    def chain(self, leaf: x509.Certificate, below: str = "VCEK") -> tuple[bytes, ...]:
        """All three in DER, the leaf first."""
        return tuple(one.public_bytes(Encoding.DER) for one in (leaf, self.between[below], self.root))

    def double(self) -> x509.Certificate:
        """An intermediate of the ASK's name with another key, signed by the root as well."""
        return _authority(f"SEV-{self.product}", f"ARK-{self.product}", _rsa(2), _rsa(0), below=0)

    def nameless(self) -> x509.Certificate:
        """A certificate that names nobody."""
        return _authority("", f"ARK-{self.product}", _rsa(2), _rsa(0), below=0)

    def sign(self, report: bytes) -> bytes:
        """The report with a signature by the leaf's key."""
        r, s = decode_dss_signature(self.key.sign(report[:0x2A0], ec.ECDSA(hashes.SHA384())))
        return report[:0x2A0] + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(0x4A0 - 0x330)


def report_body(version: int, fields: dict[int, bytes]) -> bytes:
    """A report without signature: of a quiet guest, with `fields` written over it by place."""
    made = bytearray(0x2A0)
    quiet = {
        0: version.to_bytes(4, "little"),
        0x08: (0x3001F).to_bytes(8, "little"),
        0x34: b"\1",
        0x40: b"\x25",
        0x90: b"\xaa" * 48,
    }
    for place, value in (quiet | fields).items():
        made[place : place + len(value)] = value
    return bytes(made)


@cache
def _rsa(_which: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _integer(value: int) -> bytes:
    body = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([2, len(body)]) + body


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def _certificate(
    subject: str, issuer: x509.Name, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(MADE)
    )


def _authority(
    subject: str, issuer: str, key: rsa.RSAPrivateKey, signer: rsa.RSAPrivateKey, *, below: int | None
) -> x509.Certificate:
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return (
        _certificate(subject, _name(issuer), key.public_key())
        .serial_number(1)
        .not_valid_after(MADE + timedelta(days=9000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, **usage), critical=True)
        .sign(signer, hashes.SHA384(), rsa_padding=_PSS)
    )
