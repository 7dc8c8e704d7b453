"""A GPU's report: SPDM's question and answer about measurements, and what NVIDIA writes into them.

The report is two messages one after the other, and the signature at the end is over all that stands before it:

    question (GET_MEASUREMENTS)                     answer (MEASUREMENTS)
    0   version        0x11: SPDM 1.1               0     version            0x11
    1   code           0xe0                         1     code               0x60
    2   attributes     bit 0: sign the answer       2     (two bytes: reserved, slot)
    3   operation      0xff: every block            4     number of blocks
    4   nonce          32: the challenge            5     length of record   3, L
    36  slot           of the chain that signs      8     record             L: the blocks
                                                    8+L   nonce              32: the GPU's own
                                                    40+L  length of opaque   2, O
                                                    42+L  opaque             O: NVIDIA's fields
                                                    42+L+O  signature        96: r, s of ECDSA P-384 over SHA-384

Numbers are little-endian, r and s are big-endian. A block is index, specification (1: DMTF), size (2), and in that kind (bit 7: not
a digest), size (2), value. NVIDIA's fields are number (2), size (2), value. Newer drivers write `NVDAOD`, a profile (2, zero), the
form's version (major, minor, two more bytes), and then for each field number (2), kind of value (2), size (2), value.

Reading goes in two steps, so that nothing but sizes is looked at before the signature is verified: `Report.split` finds the parts
by their lengths, and `Report.measurements` and `Report.fields` read what is inside them.

Sources: DMTF, DSP0274 (SPDM) 1.1.1, the tables of GET_MEASUREMENTS, of a successful MEASUREMENTS and of the DMTF measurement
specification; NVIDIA's attestation SDK, `spdm_resp.cpp` and `gpu_opaque_data_parser.hpp`, for the fields; NVML's
`nvmlConfComputeGpuAttestationReport_t` for the limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from blindgate_protocol.errors import MalformedError

MAX_REPORT_BYTES: Final = 0x2000
SIGNATURE_BYTES: Final = 96
NONCE_BYTES: Final = 32
_QUESTION: Final = 37
_ANSWER: Final = 8
_SPDM_1_1: Final = 0x11
_GET_MEASUREMENTS: Final = 0xE0
_MEASUREMENTS: Final = 0x60
_SIGNED: Final = 1
_ALL: Final = 0xFF
_DMTF: Final = 1
_NEWER_FIELDS: Final = b"NVDAOD"
_NEWER_HEADER: Final = 12
_NEWEST_FIELDS: Final = {False: 1, True: 2}
"""The highest version that is known, of the older form and of the newer one."""


class Field(IntEnum):
    """NVIDIA's fields, by number: those that are read here."""

    DRIVER_VERSION = 3
    VBIOS_VERSION = 6
    NVDEC0 = 11
    BOARD = 14
    CHIP_SKU = 15
    PROJECT = 17
    PROJECT_SKU = 18
    FIRMWARE_ID = 20
    PROTECTED_PCIE = 21
    FIELDS_VERSION = 34
    FEATURE = 36


class ReportError(MalformedError):
    """Bytes that are no report.

    Attributes:
        rule: which rule does not hold: `version` or `form`.
    """

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Measurement:
    """One block.

    Attributes:
        index: its number, from 1.
        kind: what was measured, by DMTF's table; bit 7 is set where `value` is no digest.
        value: the digest.
    """

    index: int
    kind: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A report's parts, found by their lengths and not yet believed.

    Attributes:
        signed: all that the signature is over: question, answer.
        signature: r and s, 48 bytes each.
        nonce: the challenge in the question, 32 bytes.
        blocks: how many blocks the record is said to have.
        record: the blocks.
        opaque: NVIDIA's fields.
    """

    signed: bytes
    signature: bytes
    nonce: bytes
    blocks: int
    record: bytes
    opaque: bytes

    @classmethod
    def split(cls, data: bytes) -> Self:
        """Find the parts of a report. Raises `ReportError`."""
        if len(data) > MAX_REPORT_BYTES:
            raise _form(f"a report of {len(data)} bytes: at most {MAX_REPORT_BYTES}")
        least = _QUESTION + _ANSWER + NONCE_BYTES + 2 + SIGNATURE_BYTES
        if len(data) < least:
            raise _form(f"a report of {len(data)} bytes: at least {least}")
        answer = memoryview(data)[_QUESTION:]
        for what, version in (("question", data[0]), ("answer", answer[0])):
            if version != _SPDM_1_1:
                message = f"the {what}'s SPDM version is {version:#04x}; 0x11 (SPDM 1.1) is known"
                raise ReportError(message, rule="version")
        if (data[1], answer[1]) != (_GET_MEASUREMENTS, _MEASUREMENTS):
            raise _form(
                f"the messages' codes are {data[1]:#04x} and {answer[1]:#04x}: 0xe0 (GET_MEASUREMENTS), 0x60 (MEASUREMENTS)"
            )
        if data[2] != _SIGNED or data[3] != _ALL:
            raise _form(f"the question asks for {data[2]:#04x}, {data[3]:#04x}: 0x01, 0xff ask for all blocks, signed")
        opaque = _ANSWER + int.from_bytes(answer[5:8], "little") + NONCE_BYTES
        stated = opaque + 2 + int.from_bytes(answer[opaque : opaque + 2], "little") + SIGNATURE_BYTES
        if stated != len(answer):
            raise _form(
                f"an answer of {len(answer)} bytes, whose lengths come to {stated}: truncated, or with trailing bytes"
            )
        return cls(
            signed=data[:-SIGNATURE_BYTES],
            signature=data[-SIGNATURE_BYTES:],
            nonce=data[4 : 4 + NONCE_BYTES],
            blocks=answer[4],
            record=bytes(answer[_ANSWER : opaque - NONCE_BYTES]),
            opaque=bytes(answer[opaque + 2 : -SIGNATURE_BYTES]),
        )

    def measurements(self) -> tuple[Measurement, ...]:
        """The blocks, as they stand. Raises `ReportError`."""
        found: dict[int, Measurement] = {}
        rest = self.record
        while rest:
            index, specification, size = rest[0], rest[1:2], int.from_bytes(rest[2:4], "little")
            body, rest = rest[4 : 4 + size], rest[4 + size :]
            if specification != bytes([_DMTF]) or len(body) != size or int.from_bytes(body[1:3], "little") != size - 3:
                raise _form(f"block {index} is not one of DMTF's measurements")
            if index in found or not index:
                raise _form(f"two blocks {index}, or one of a number that counts from 1")
            found[index] = Measurement(index, body[0], body[3:])
        if not found or len(found) != self.blocks:
            raise _form(f"{len(found)} blocks, where the answer states {self.blocks}")
        return tuple(found.values())

    def fields(self) -> Mapping[int, bytes]:
        """NVIDIA's fields by number; numbers that are not in `Field` are left as they are. Raises `ReportError`."""
        newer, rest = self.opaque.startswith(_NEWER_FIELDS), self.opaque
        found: dict[int, bytes] = {}
        if newer:
            header, rest = rest[:_NEWER_HEADER], rest[_NEWER_HEADER:]
            if len(header) != _NEWER_HEADER or any(header[6:8]):
                raise _form("the head of NVIDIA's fields is truncated, or of a profile that is not known")
        size_at = 4 if newer else 2
        while rest:
            number, size = int.from_bytes(rest[:2], "little"), int.from_bytes(rest[size_at : size_at + 2], "little")
            end = size_at + 2 + size
            if len(rest) < end or number in found:
                raise _form(f"NVIDIA's field {number} is truncated, or there twice")
            found[number], rest = rest[size_at + 2 : end], rest[end:]
        # The newer form says its version at its head, whatever stands in the older one's field.
        version = header[8] if newer else int.from_bytes(found.get(Field.FIELDS_VERSION, b""), "little")
        if version > _NEWEST_FIELDS[newer]:
            raise ReportError(
                f"NVIDIA's fields have version {version}: up to {_NEWEST_FIELDS[newer]} is known", rule="version"
            )
        return found


def _form(message: str) -> ReportError:
    return ReportError(message, rule="form")
