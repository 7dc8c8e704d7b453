"""AMD's attestation report as bytes: 1184 of them, little-endian, 672 signed, then the signature. What each means, and no verdict.

    000 version           038 current TCB     0E0 id key digest      188 processor (v3)    1F0 launch TCB
    004 guest SVN         040 platform        110 author key digest  1A0 chip id           1F8 mitigations at launch (v5)
    008 guest policy      048 signing key     140 report id          1E0 committed TCB     200 mitigations now (v5)
    010 family, image id  050 report data     160 its migrator's     1E8 firmware now      2A0 r and s, 72 bytes each
    030 VMPL              090 measurement     180 reported TCB       1EC and committed     330 zeros
    034 algorithm         0C0 host data

What a version does not define is zero, and so is what follows the signature: anything else is no report of that version. Unknown
bits of the platform are no error, since firmware adds some without a new version. Unknown bits of the guest policy may allow what
nobody here has heard of: whoever appraises decides.

A TCB is eight bytes, each the security patch level of one part. Turin put the parts in another order and added one, and a report
tells so only by its processor. So a TCB is read where the product is known.

Source: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860), revision 1.58: table 3 (TCB_VERSION), table 10 (guest
policy), section 7.3 with table 23 (ATTESTATION_REPORT), appendix on signature formats (ECDSA P-384 with SHA-384).
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

from blindgate_protocol.errors import MalformedError

REPORT_BYTES: Final = 0x4A0
SIGNED_BYTES: Final = 0x2A0
REPORT_DATA_BYTES: Final = 64
VERSIONS: Final = range(2, 6)
ECDSA_P384_SHA384: Final = 1
HOST_REQUESTED: Final = 0xFFFFFFFF
"""The VMPL of a report that the host asked for, and not the guest."""
_SCALAR: Final = 72
_SIGNATURE_END: Final = SIGNED_BYTES + 2 * _SCALAR
_IDENTIFIES_PROCESSOR: Final = 3
_HAS_MITIGATIONS: Final = 5


class Product(StrEnum):
    """A generation of processors, by the name that AMD's root for it has. Bergamo and Siena are Genoa's."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


class SigningKey(IntEnum):
    """Which key signed a report: the chip's own, or one that AMD gave to a cloud's owner for many chips."""

    VCEK = 0
    VLEK = 1


_PRODUCTS: Final = (
    (0x19, range(0x10), Product.MILAN),
    (0x19, range(0x10, 0x20), Product.GENOA),
    (0x19, range(0xA0, 0xB0), Product.GENOA),
    (0x1A, range(0x20), Product.TURIN),
)
_POLICY_BITS: Final = MappingProxyType(
    {
        "smt": 16,
        "migration_agent": 18,
        "debug": 19,
        "single_socket": 20,
        "cxl": 21,
        "aes_256_xts": 22,
        "rapl_disabled": 23,
        "ciphertext_hiding": 24,
        "page_swap_disabled": 25,
    }
)
_POLICY_ALWAYS: Final = 17
_POLICY_KNOWN: Final = (1 << 26) - 1
_SIGNING_KEY_AT: Final = 2
"""Where the signing key begins within its field; before it, whether an author key was given, and whether chip keys are masked."""
_PLATFORM_BITS: Final = MappingProxyType(
    {
        "smt": 0,
        "tsme": 1,
        "ecc": 2,
        "rapl_disabled": 3,
        "ciphertext_hiding": 4,
        "alias_check_complete": 5,
        "trusted_io": 7,
    }
)
_EARLIER_PARTS: Final = MappingProxyType({"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7})
_TURIN_PARTS: Final = MappingProxyType({"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7})


class ReportError(MalformedError):
    """Not a report that can be judged.

    Attributes:
        rule: which rule does not hold: `form`, `version`, `signature-algorithm` or `signing-key`.
    """

    def __init__(self, message: str, *, rule: str = "form") -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Tcb:
    """What a TCB's eight bytes say.

    Attributes:
        raw: as in the report, 8 bytes.
        parts: the security patch level of each part, 0 to 255.
    """

    raw: bytes
    parts: MappingProxyType[str, int]

    @property
    def reserved(self) -> bytes:
        """The bytes that stand for no part."""
        places = (_TURIN_PARTS if "fmc" in self.parts else _EARLIER_PARTS).values()
        return bytes(byte for place, byte in enumerate(self.raw) if place not in places)

    def exceeds(self, other: "Tcb") -> list[str]:
        """Which parts have a higher level here than there."""
        return [name for name, level in self.parts.items() if level > other.parts[name]]

    def __str__(self) -> str:
        return ", ".join(f"{name} {level}" for name, level in self.parts.items())


@dataclass(frozen=True, slots=True)
class Report:
    """A report whose form holds; nobody has looked at its signature.

    Attributes:
        data: the whole, `REPORT_BYTES`.
    """

    data: bytes

    def integer(self, begin: int, length: int) -> int:
        """A number, little-endian."""
        return int.from_bytes(self.data[begin : begin + length], "little")

    def field(self, begin: int, length: int) -> bytes:
        """Some bytes."""
        return self.data[begin : begin + length]

    @property
    def version(self) -> int:
        """One of `VERSIONS`."""
        return self.integer(0, 4)

    @property
    def vmpl(self) -> int:
        """The privilege level of who asked for the report: 0 (most) to 3, or `HOST_REQUESTED`."""
        return self.integer(0x30, 4)

    @property
    def signing_key(self) -> SigningKey:
        """Which key signed."""
        return SigningKey(self.integer(0x48, 4) >> _SIGNING_KEY_AT & 7)

    @property
    def report_data(self) -> bytes:
        """What the guest put in, 64 bytes."""
        return self.field(0x50, REPORT_DATA_BYTES)

    @property
    def chip_id(self) -> bytes:
        """Which chip, 64 bytes; Turin uses the first 8; all zero where the host masks it."""
        return self.field(0x1A0, 64)

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        return self.data[:SIGNED_BYTES]

    @property
    def signature(self) -> tuple[int, int]:
        """The numbers r and s, each below 2^576 and not yet held to the curve."""
        return self.integer(SIGNED_BYTES, _SCALAR), self.integer(SIGNED_BYTES + _SCALAR, _SCALAR)

    @property
    def processor(self) -> tuple[int, int, int] | None:
        """Family, model and stepping as CPUID has them, extended ones added in; `None` before version 3."""
        if self.version < _IDENTIFIES_PROCESSOR:
            return None
        return self.data[0x188], self.data[0x189], self.data[0x18A]

    @property
    def product(self) -> Product | None:
        """Which generation the processor is of; `None` before version 3, and for processors that are not known."""
        if self.processor is None:
            return None
        family, model, _stepping = self.processor
        return next((name for of, models, name in _PRODUCTS if family == of and model in models), None)

    @property
    def policy(self) -> dict[str, bool]:
        """What the guest's owner allows and demands, by name."""
        return {name: bool(self.integer(8, 8) >> bit & 1) for name, bit in _POLICY_BITS.items()}

    @property
    def policy_abi(self) -> str:
        """The oldest interface that the guest runs on, such as `0.31`."""
        return f"{self.data[9]}.{self.data[8]}"

    @property
    def policy_faults(self) -> list[str]:
        """What no guest policy may have: a bit that must be set and is not, and bits that nobody knows."""
        bits = self.integer(8, 8)
        unknown = [str(bit) for bit in range(64) if bits & ~_POLICY_KNOWN & 1 << bit]
        return ([] if bits >> _POLICY_ALWAYS & 1 else [f"bit {_POLICY_ALWAYS} is not set"]) + (
            [f"bits {', '.join(unknown)} are set, which are not known"] if unknown else []
        )

    @property
    def platform(self) -> dict[str, bool]:
        """How the machine is set up, by name. A bit that a version does not define is false."""
        return {name: bool(self.integer(0x40, 8) >> bit & 1) for name, bit in _PLATFORM_BITS.items()}

    @property
    def platform_unknown(self) -> list[int]:
        """Bits of the platform that are set, and that nobody here knows."""
        return [bit for bit in range(64) if self.integer(0x40, 8) >> bit & 1 and bit not in _PLATFORM_BITS.values()]

    @property
    def alias_check_complete(self) -> bool:
        """Whether the firmware says that it looked for memory that answers to two addresses. Versions before 3 cannot say it."""
        return self.version >= _IDENTIFIES_PROCESSOR and self.platform["alias_check_complete"]

    @property
    def mitigations(self) -> tuple[bytes, bytes] | None:
        """Which mitigations were in place at launch, and are now, 8 bytes each as they stand; `None` before version 5."""
        return (self.field(0x1F8, 8), self.field(0x200, 8)) if self.version >= _HAS_MITIGATIONS else None

    def tcb(self, begin: int, product: Product) -> Tcb:
        """The TCB at a place, as the product orders it."""
        return read_tcb(self.field(begin, 8), product)

    def firmware(self, begin: int) -> str:
        """A firmware version, such as `1.55.29`: major, minor, build."""
        build, minor, major = self.field(begin, 3)
        return f"{major}.{minor}.{build}"


def read_tcb(raw: bytes, product: Product) -> Tcb:
    """Eight bytes as the product orders them."""
    places = _TURIN_PARTS if product is Product.TURIN else _EARLIER_PARTS
    return Tcb(raw, MappingProxyType({name: raw[place] for name, place in places.items()}))


def read_report(data: bytes) -> Report:
    """A report whose form holds. Raises `ReportError`."""
    if len(data) != REPORT_BYTES:
        message = f"a report of {len(data)} bytes: it has {REPORT_BYTES}"
        raise ReportError(message)
    report = Report(bytes(data))
    if report.version not in VERSIONS:
        message = f"a report of version {report.version}: {VERSIONS.start} to {VERSIONS.stop - 1} are known"
        raise ReportError(message, rule="version")
    algorithm = report.integer(0x34, 4)
    if algorithm != ECDSA_P384_SHA384:
        message = (
            f"a signature by algorithm {algorithm}: only {ECDSA_P384_SHA384} is known, ECDSA on P-384 with SHA-384"
        )
        raise ReportError(message, rule="signature-algorithm")
    key = report.integer(0x48, 4) >> _SIGNING_KEY_AT & 7
    if key not in list(SigningKey):
        message = f"a report signed by key {key}: 0 is a VCEK, 1 a VLEK, and 7 says that nobody signed it"
        raise ReportError(message, rule="signing-key")
    for begin, end in _reserved(report.version):
        if any(data[begin:end]):
            message = f"bytes 0x{begin:x} to 0x{end - 1:x} are not zero, which a report of version {report.version} does not use"
            raise ReportError(message)
    if report.integer(0x48, 4) >> 5:
        message = f"the field of the signing key is 0x{report.integer(0x48, 4):x}: its upper 27 bits are zero"
        raise ReportError(message)
    return report


def _reserved(version: int) -> list[tuple[int, int]]:
    return [
        (0x4C, 0x50),
        (0x18B if version >= _IDENTIFIES_PROCESSOR else 0x188, 0x1A0),
        (0x1EB, 0x1EC),
        (0x1EF, 0x1F0),
        (0x208 if version >= _HAS_MITIGATIONS else 0x1F8, SIGNED_BYTES),
        (_SIGNATURE_END, REPORT_BYTES),
    ]
