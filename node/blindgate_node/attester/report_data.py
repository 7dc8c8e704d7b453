"""Which report data a piece of evidence binds: the one thing that a node reads in what its platform signed.

A report that answers another question is of no use to the client that asked, and may be of use to somebody else. So a node looks
before it hands one out. It looks at form, platform and report data. Signatures it leaves to the reader, who would not believe a
node's own word about them.

| platform | bytes | where |
|---|---|---|
| `amd-sev-snp` | 1184, version 2 to 5 | 64 bytes at 0x50 |
| `intel-tdx` | header of 48, version 4 or 5, kind 0x81; in version 5 six bytes more | 64 bytes at 520 of the body |
| `aws-nitro` | COSE_Sign1 of a CBOR map | `user_data` |

Sources: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860), section 7.3; Intel TDX DCAP Quoting Library API,
appendix A; AWS, Nitro Enclaves, attestation process.
"""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final

import cbor2

from blindgate_protocol.errors import AttesterError
from blindgate_protocol.evidence import MAX_PLATFORM_BYTES, REPORT_DATA_BYTES

AMD_SEV_SNP: Final = "amd-sev-snp"
INTEL_TDX: Final = "intel-tdx"
AWS_NITRO: Final = "aws-nitro"

_SNP_BYTES, _SNP_AT = 0x4A0, 0x50
_SNP_VERSIONS: Final = range(2, 6)
_TDX_HEADER, _TDX_IN_BODY, _TDX_KIND = 48, 520, 0x81
_TDX_BODY_AT: Final[Mapping[int, int]] = {4: _TDX_HEADER, 5: _TDX_HEADER + 6}
_SIGN1_TAG: Final = 18
_SIGN1_PARTS: Final = 4


def check_bound(platform: str, evidence: bytes, report_data: bytes) -> None:
    """Refuse evidence that is not of `platform`, or does not bind `report_data`. Raises `AttesterError`."""
    found = bound_by(platform, evidence)
    if found != report_data:
        raise AttesterError(
            f"{platform}: the evidence that came binds other report data ({found.hex() or 'none'}) than was asked for "
            f"({report_data.hex()}): it is not handed out"
        )


def bound_by(platform: str, evidence: bytes) -> bytes:
    """The report data of evidence that should be of `platform`. Raises `AttesterError` where it is none of that platform."""
    if len(evidence) > MAX_PLATFORM_BYTES:
        raise AttesterError(f"{platform}: evidence of {len(evidence)} bytes: at most {MAX_PLATFORM_BYTES}")
    return _READERS[platform](evidence)


def _of_snp(evidence: bytes) -> bytes:
    version = int.from_bytes(evidence[:4], "little")
    if len(evidence) != _SNP_BYTES or version not in _SNP_VERSIONS:
        raise AttesterError(
            f"{AMD_SEV_SNP}: {len(evidence)} bytes of version {version} are no report: {_SNP_BYTES}, version 2 to 5"
        )
    return evidence[_SNP_AT : _SNP_AT + REPORT_DATA_BYTES]


def _of_tdx(evidence: bytes) -> bytes:
    version, kind = int.from_bytes(evidence[:2], "little"), int.from_bytes(evidence[4:8], "little")
    begin = _TDX_BODY_AT.get(version, 0) + _TDX_IN_BODY
    if version not in _TDX_BODY_AT or kind != _TDX_KIND or len(evidence) < begin + REPORT_DATA_BYTES:
        raise AttesterError(
            f"{INTEL_TDX}: {len(evidence)} bytes of version {version} and kind {kind:#x} are no quote of a trust domain: "
            f"version 4 or 5, kind {_TDX_KIND:#x}"
        )
    return evidence[begin : begin + REPORT_DATA_BYTES]


def _of_nitro(evidence: bytes) -> bytes:
    sign1 = _decoded(evidence)
    if isinstance(sign1, cbor2.CBORTag) and sign1.tag == _SIGN1_TAG:
        sign1 = sign1.value
    if not isinstance(sign1, (list, tuple)) or len(sign1) != _SIGN1_PARTS or not isinstance(sign1[2], bytes):
        raise AttesterError(f"{AWS_NITRO}: {len(evidence)} bytes that are no signed document (COSE_Sign1)")
    document = _decoded(sign1[2])
    found = document.get("user_data") if isinstance(document, dict) else None
    if not isinstance(document, dict) or "pcrs" not in document:
        raise AttesterError(f"{AWS_NITRO}: a signed document that is no enclave's: it has no `pcrs`")
    return found if isinstance(found, bytes) else b""


def _decoded(data: bytes) -> Any:
    try:
        return cbor2.CBORDecoder(BytesIO(data), read_size=1).decode()
    except Exception as error:  # whatever a decoder makes of bytes that a device gave
        raise AttesterError(f"{AWS_NITRO}: {len(data)} bytes that are no CBOR: {type(error).__name__}") from error


_READERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    AMD_SEV_SNP: _of_snp,
    INTEL_TDX: _of_tdx,
    AWS_NITRO: _of_nitro,
}
