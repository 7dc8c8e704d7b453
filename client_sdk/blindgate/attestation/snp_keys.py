"""Which key signed an AMD report, as AMD certified it: found among the certificates that came along, in whatever order they came.

    ARK, pinned: one for each generation
     ├─ ASK  "SEV-Milan"       ─ VCEK of one chip at one TCB, with the chip's id
     └─ ASVK "SEV-VLEK-Milan"  ─ VLEK of a cloud's owner at one TCB, with the owner's name

1. The leaf is of the kind that the report names. Where there are several, it is the one whose key verifies the report, if any does.
2. The intermediate is the one that the leaf names, and its name says kind and generation: a VCEK below an ASVK is none.
3. The root is pinned. From it down to the leaf, each signs the next, and all are valid at the time.
4. The leaf says, in extensions of AMD's, for which product and TCB its key is, and for which chip or whom.

What is missing is named with the place where AMD publishes it. Whether leaf and report agree is decided by `sev_snp`.

Source: AMD, Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (57230): section 3 (certificates and
their extensions, 1.3.6.1.4.1.3704.1), section 4 (the addresses).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from blindgate.attestation import roots
from blindgate.attestation.chains import MOST_CERTIFICATES, ChainError, fingerprint, read_certificate, verify_chain
from blindgate.attestation.snp_report import Product, Report, SigningKey
from blindgate_protocol.values import Millis

SERVICE: Final = "https://kdsintf.amd.com"
"""Where AMD publishes its certificates and what it revoked."""
_SUBJECTS: Final = MappingProxyType({"SEV-VCEK": SigningKey.VCEK, "SEV-VLEK": SigningKey.VLEK})
_ISSUERS: Final = MappingProxyType(
    {f"SEV-{one}": (SigningKey.VCEK, one) for one in Product}
    | {f"SEV-VLEK-{one}": (SigningKey.VLEK, one) for one in Product}
)
_NAMES: Final = MappingProxyType(
    {"Bergamo": Product.GENOA, "Siena": Product.GENOA} | {str(one): one for one in Product}
)
_ARC: Final = "1.3.6.1.4.1.3704.1"
_PRODUCT: Final = f"{_ARC}.2"
_HARDWARE_ID: Final = f"{_ARC}.4"
_CLOUD: Final = f"{_ARC}.5"
_LEVELS: Final = MappingProxyType({"bootloader": 1, "tee": 2, "snp": 3, "microcode": 8, "fmc": 9})
"""The last number of a part's extension under `_ARC`.3."""
_HARDWARE_ID_BYTES: Final = MappingProxyType({Product.MILAN: 64, Product.GENOA: 64, Product.TURIN: 8})
_INTEGER, _OCTETS, _TEXT = 0x02, 0x04, 0x16


@dataclass(frozen=True, slots=True)
class Endorsement:
    """The key that AMD certified, whose chain holds.

    Attributes:
        kind: VCEK or VLEK.
        product: the generation of its root.
        named: the product as the leaf has it, such as `Milan-B0`.
        levels: for which TCB the key is: the security patch level of each part.
        hardware_id: the chip's id, 8 bytes for Turin and 64 before it; VCEK only.
        cloud: whose it is, such as `CN=cc-us-east-2.amazonaws.com`; VLEK only.
        leaf: its certificate.
    """

    kind: SigningKey
    product: Product
    named: str
    levels: MappingProxyType[str, int]
    hardware_id: bytes | None
    cloud: str | None
    leaf: x509.Certificate

    @property
    def product_named(self) -> Product | None:
        """The generation that the leaf names; `None` for one that is not known."""
        return _NAMES.get(self.named.split("-")[0])

    def signed(self, report: Report) -> bool:
        """Whether this key signed the report."""
        return _signed(report, self.leaf)


def find_key(report: Report, chain: Sequence[bytes], at: Millis) -> Endorsement:
    """The key that a report names, among certificates in DER. Raises `ChainError`, whose rule may also be `signing-key`."""
    if len(chain) > MOST_CERTIFICATES:
        message = f"{len(chain)} certificates came along: at most {MOST_CERTIFICATES} are looked at"
        raise ChainError(message, rule="form")
    present = list({fingerprint(one): one for one in map(read_certificate, chain)}.values())
    leaf = _leaf(report, present)
    product = _check_issuer(report, leaf)
    root = _root(product, present)
    _verify(root, _intermediates(leaf, product, report.signing_key, present), leaf, at)
    return _endorsement(leaf, report.signing_key, product)


def certificate_address(report: Report) -> str:
    """Where AMD publishes the VCEK's certificate of a report; with `PRODUCT` in it for reports of version 2, which do not say."""
    product = report.product
    tcb = report.tcb(0x180, product or Product.MILAN)
    names = {"fmc": "fmcSPL", "bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
    levels = "&".join(f"{names[name]}={tcb.parts[name]:02d}" for name in names if name in tcb.parts)
    chip = report.chip_id[: _HARDWARE_ID_BYTES[product or Product.MILAN]]
    return f"{SERVICE}/vcek/v1/{product or 'PRODUCT'}/{chip.hex()}?{levels}"


def authorities_address(kind: SigningKey, product: Product) -> str:
    """Where AMD publishes root and intermediate of a kind of key, in one PEM file."""
    return f"{SERVICE}/{kind.name.lower()}/v1/{product}/cert_chain"


def _leaf(report: Report, present: list[x509.Certificate]) -> x509.Certificate:
    # 1.
    kinds = {kind: [one for one in present if _SUBJECTS.get(_common_name(one)) is kind] for kind in SigningKey}
    wanted = kinds[report.signing_key]
    if wanted:
        return next((one for one in wanted if _signed(report, one)), wanted[0])
    others = [kind.name for kind, found in kinds.items() if found]
    if others:
        message = (
            f"the report says that a {report.signing_key.name} signed it, and the certificates have a {others[0]} only"
        )
        raise ChainError(message, rule="signing-key")
    if report.signing_key is SigningKey.VCEK:
        message = (
            f"the certificate of the chip's key (VCEK) is missing; AMD publishes it at {certificate_address(report)}"
        )
    else:
        message = (
            "the certificate of the cloud's key (VLEK) is missing; the machine hands it out beside the report (auxblob)"
        )
    raise ChainError(message, rule="chain")


def _check_issuer(report: Report, leaf: x509.Certificate) -> Product:
    # 2.
    issuer = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(issuer[0].value) if issuer else ""
    kind, product = _ISSUERS.get(name, (None, None))
    if product is None:
        message = (
            f"the {report.signing_key.name}'s certificate names {name!r} as its issuer: {', '.join(_ISSUERS)} are known"
        )
        raise ChainError(message, rule="chain")
    if kind is not report.signing_key:
        message = (
            f"the {report.signing_key.name}'s certificate names {name!r} as its issuer, which certifies the other kind"
        )
        raise ChainError(message, rule="signing-key")
    return product


def _root(product: Product, present: list[x509.Certificate]) -> x509.Certificate:
    pinned = [one for one in present if roots.AMD.get(fingerprint(one)) == product]
    # One that bears the name and is not pinned goes on to `verify_chain`, which says so.
    named = [one for one in present if _common_name(one) == f"ARK-{product}"]
    if not pinned + named:
        message = f"AMD's root ARK-{product} is missing; it is in {authorities_address(SigningKey.VCEK, product)}"
        raise ChainError(message, rule="chain")
    return (pinned + named)[0]


def _intermediates(
    leaf: x509.Certificate, product: Product, kind: SigningKey, present: list[x509.Certificate]
) -> list[x509.Certificate]:
    found = [one for one in present if one.subject == leaf.issuer]
    if not found:
        name = "ASK" if kind is SigningKey.VCEK else "ASVK"
        message = (
            f"the {name} ({leaf.issuer.rfc4514_string()}) is missing; it is in {authorities_address(kind, product)}"
        )
        raise ChainError(message, rule="chain")
    return found


def _verify(root: x509.Certificate, between: list[x509.Certificate], leaf: x509.Certificate, at: Millis) -> None:
    # 3. A name does not tell an intermediate from another that bears it: one of them must lead to the leaf.
    errors = []
    for one in between:
        try:
            verify_chain((root, one, leaf), roots.AMD, at=at)
        except ChainError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def _endorsement(leaf: x509.Certificate, kind: SigningKey, product: Product) -> Endorsement:
    # 4.
    said = {
        one.oid.dotted_string: one.value.value
        for one in leaf.extensions
        if isinstance(one.value, x509.UnrecognizedExtension)
    }
    parts = [name for name in _LEVELS if name != "fmc" or product is Product.TURIN]
    return Endorsement(
        kind=kind,
        product=product,
        named=_text(said, _PRODUCT),
        levels=MappingProxyType({name: _level(said, f"{_ARC}.3.{_LEVELS[name]}") for name in parts}),
        hardware_id=_hardware_id(said, product) if kind is SigningKey.VCEK else None,
        cloud=_text(said, _CLOUD) if kind is SigningKey.VLEK else None,
        leaf=leaf,
    )


def _extension(said: dict[str, bytes], oid: str) -> bytes:
    if oid not in said:
        message = f"the certificate of the signing key lacks the extension {oid}"
        raise ChainError(message, rule="form")
    return said[oid]


def _text(said: dict[str, bytes], oid: str) -> str:
    value = _extension(said, oid)
    if len(value) < 2 or value[0] != _TEXT or value[1] != len(value) - 2 or not value[2:].isascii():  # noqa: PLR2004
        message = f"the extension {oid} is no short IA5String: {value[:16].hex()}"
        raise ChainError(message, rule="form")
    return value[2:].decode("ascii")


def _level(said: dict[str, bytes], oid: str) -> int:
    value = _extension(said, oid)
    level = value[-1] if value else 0
    # DER has one form for each number; a level above 127 has a zero before it, or it would be a negative one.
    if value != (bytes([_INTEGER, 1, level]) if level < 1 << 7 else bytes([_INTEGER, 2, 0, level])):
        message = f"the extension {oid} is no number from 0 to 255: {value[:16].hex()}"
        raise ChainError(message, rule="form")
    return level


def _hardware_id(said: dict[str, bytes], product: Product) -> bytes:
    value, length = _extension(said, _HARDWARE_ID), _HARDWARE_ID_BYTES[product]
    # AMD writes the bytes as they are; some certificates have them as an OCTET STRING. The lengths tell one from the other.
    if len(value) == length + 2 and value[:2] == bytes([_OCTETS, length]):
        value = value[2:]
    if len(value) != length:
        message = f"the extension {_HARDWARE_ID} has {len(value)} bytes: the chip id of {product} has {length}"
        raise ChainError(message, rule="form")
    return value


def _signed(report: Report, certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return False
    try:
        key.verify(encode_dss_signature(*report.signature), report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
