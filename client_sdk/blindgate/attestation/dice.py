"""What a device's certificate says of the firmware that its key was made for.

A device that is built by DICE derives its key from the firmware that it started: other firmware, other key. The certificate names
that firmware by a digest (FWID). NVIDIA's Hopper writes it in extension 2.23.133.5.4.1, as the last of a sequence of version,
public key and FWID; Blackwell in 2.23.133.5.4.1.1 (DiceTcbInfo), with flags that say whether the device is in a mode for debugging.

Sources: TCG, DICE Attestation Architecture (DiceTcbInfo, FWID, OperationalFlags); TCG, Implicit Identity Based Device Attestation
(CompositeDeviceID); NVIDIA's attestation SDK, `nv_x509.cpp`, for which of both stands under which number.
"""

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from blindgate.attestation.chains import ChainError

COMPOSITE_DEVICE_ID: Final = x509.ObjectIdentifier("2.23.133.5.4.1")
TCB_INFO: Final = x509.ObjectIdentifier("2.23.133.5.4.1.1")
_SEQUENCE, _OCTETS = 0x30, 0x04
_FWIDS, _FLAGS = 0xA6, 0x87
_LONG_FORM = 0x80
_FLAG_NAMES: Final = ("not-configured", "not-secure", "recovery", "debug")


@dataclass(frozen=True, slots=True)
class Firmware:
    """What a certificate says of its device's firmware.

    Attributes:
        digest: the firmware's (FWID); the first, where there are several.
        flags: which of the first four flags are set, by name; `None` where the certificate has none.
    """

    digest: bytes
    flags: tuple[str, ...] | None


def firmware_of(certificate: x509.Certificate) -> Firmware | None:
    """What the certificate says of the firmware; `None`: nothing. Raises `ChainError`."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.UnrecognizedExtension):
            if extension.oid == COMPOSITE_DEVICE_ID:
                return Firmware(_digest(_elements(_one(extension.value.value, _SEQUENCE))[-1:]), None)
            if extension.oid == TCB_INFO:
                return _tcb_info(extension.value.value)
    return None


def _tcb_info(der: bytes) -> Firmware:
    parts = dict(_elements(_one(der, _SEQUENCE)))
    flags: tuple[str, ...] | None = None
    if _FLAGS in parts:
        bits = parts[_FLAGS]
        if len(bits) < 2:  # noqa: PLR2004  (unused bits, and at least eight of them)
            raise _malformed("its flags are empty")
        flags = tuple(name for place, name in enumerate(_FLAG_NAMES) if bits[1] & (0x80 >> place))
    return Firmware(_digest(_elements(parts.get(_FWIDS, b""))[:1]), flags)


def _digest(fwids: list[tuple[int, bytes]]) -> bytes:
    """Of a FWID: algorithm, digest."""
    if [tag for tag, _ in fwids] != [_SEQUENCE]:
        raise _malformed("it has no FWID")
    parts = _elements(fwids[0][1])
    if not parts or parts[-1][0] != _OCTETS:
        raise _malformed("its FWID has no digest")
    return parts[-1][1]


def _one(der: bytes, tag: int) -> bytes:
    found = _elements(der)
    if [one for one, _ in found] != [tag]:
        raise _malformed("it is not one sequence")
    return found[0][1]


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Tags and values that stand one after the other. Lengths of one byte, or of one that is said to follow in at most two."""
    found, at = [], 0
    while at < len(der):
        tag, size, start = der[at], int.from_bytes(der[at + 1 : at + 2]), at + 2
        if size >= _LONG_FORM:
            start += size - _LONG_FORM
            if not 1 <= size - _LONG_FORM <= 2:  # noqa: PLR2004
                raise _malformed("a length that is not of one or two bytes")
            size = int.from_bytes(der[at + 2 : start])
        if len(der) < start + size:
            raise _malformed("it is truncated")
        found.append((tag, der[start : start + size]))
        at = start + size
    return found


def _malformed(why: str) -> ChainError:
    return ChainError(f"the certificate's extension about its firmware does not parse: {why}", rule="form")
