"""The forms in which evidence about GPUs comes: which bytes are the report, which its certificates, and what is said beside them.

- JSON as NVIDIA's attestation SDK writes it: a list with, for each GPU, `arch`, `evidence` (the report in base64), `certificate`
  (PEM in base64, the key that signs first) and `nonce` (hexadecimal); newer ones also have `version`, `driver_version` and
  `vbios_version`.
- JSON as its second version writes it: a collection of messages, with one collection for each GPU, whose `evidence`, `certificate`
  (PEM) and `nonce` are pairs of a media type and base64 of the other alphabet.
- A report alone, in hexadecimal, in base64 or as it is; the certificates come beside it.
- A token: what somebody else's verifier made of evidence, a JWT or JSON around some. It is told here so that it can be refused: a
  verdict is no evidence, least of all one that nobody signed (`alg: none`).

Sources: NVIDIA's attestation SDK, `gpu/evidence.cpp`; draft-ietf-rats-msg-wrap (collections of messages).
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from blindgate.attestation.chains import read_certificate, read_pem
from blindgate.attestation.spdm import NONCE_BYTES
from blindgate.attestation.texts import from_base64
from blindgate_protocol.errors import MalformedError

MOST_GPUS: Final = 16
MAX_EVIDENCE_BYTES: Final = 1 << 19
_ARCHITECTURES: Final = ("HOPPER", "BLACKWELL")
_BEGINS: Final = b"\x11\xe0"  # a report: SPDM 1.1, GET_MEASUREMENTS
_BEGINS_IN_HEX: Final = (b"11e0", b"11E0")
_BEGINS_IN_BASE64: Final = b"EeA"
_JWT: Final = re.compile(rb"(?<![A-Za-z0-9_-])(eyJ[A-Za-z0-9_-]*)\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_COLLECTION: Final = "__cmwc_t"
_NONCE: Final = "application/octet-stream"
_TRANSCRIPT: Final = "application/vnd.nvidia.spdm-measurement-transcript"
_CHAIN: Final = "application/vnd.nvidia.pem-cert-chain"
_TOKEN_MARKS: Final = (b'"JWT"', b'"detached_eat"', b'"x-nvidia-')
_HEX_NONCE: Final = re.compile(rf"[0-9a-fA-F]{{{2 * NONCE_BYTES}}}")
_PEM: Final = b"-----BEGIN"
_PEM_IN_BASE64: Final = base64.b64encode(_PEM)[:8]


class GpuFileError(MalformedError):
    """Bytes that are no evidence about GPUs.

    Attributes:
        rule: which rule does not hold: `form`, `version`, `algorithm` or `token`.
    """

    def __init__(self, message: str, *, rule: str = "form") -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class GpuFile:
    """One GPU's evidence, as it was handed over; nothing of it is believed yet.

    Attributes:
        report: question and answer, in bytes.
        chain: the certificates in DER, in the order in which they came; `None`: none came with it.
        nonce: what is said beside the report to be the challenge, 32 bytes; `None`: nothing.
        said: what else is said beside the report: `arch`, `driver_version`, `vbios_version`.
    """

    report: bytes
    chain: tuple[bytes, ...] | None = None
    nonce: bytes | None = None
    said: tuple[tuple[str, str], ...] = ()


def is_gpu_file(data: bytes) -> bool:
    """Whether bytes look like one of the forms."""
    text = data.strip()
    if text[:1] in (b"[", b"{"):
        return (b'"evidence"' in text and b'"certificate"' in text) or any(mark in text for mark in _TOKEN_MARKS)
    return text.startswith((_BEGINS, *_BEGINS_IN_HEX, _BEGINS_IN_BASE64)) or _JWT.match(text) is not None


def read_gpu_file(data: bytes) -> tuple[GpuFile, ...]:
    """The evidence, one for each GPU. Raises `GpuFileError`, and `ChainError` for certificates that are none."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise GpuFileError(f"evidence of {len(data)} bytes: at most {MAX_EVIDENCE_BYTES}")
    text = data.strip()
    if text[:1] not in (b"[", b"{"):
        if _JWT.match(text):
            raise _token(text)
        return (GpuFile(_report(data)),)
    made = _json(text)
    if isinstance(made, dict) and _COLLECTION in made:
        return _collection(made)
    if isinstance(made, dict) and "evidence" in made:
        made = [made]
    if not isinstance(made, list) or not all(isinstance(one, dict) and "evidence" in one for one in made):
        if any(mark in text for mark in _TOKEN_MARKS):
            raise _token(text)
        raise GpuFileError("JSON, and no list with `evidence` for each GPU")
    if not 1 <= len(made) <= MOST_GPUS:
        raise GpuFileError(f"evidence about {len(made)} GPUs: 1 to {MOST_GPUS}")
    return tuple(_gpu(one) for one in made)


def read_chain(given: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Certificates that came beside a report, in DER: each may be in DER, or several in PEM or in base64 of PEM.

    Raises `ChainError`, `GpuFileError`.
    """
    found: list[bytes] = []
    for one in given:
        if _PEM in one[:64]:
            found.extend(read_pem(one))
        elif one.startswith(_PEM_IN_BASE64):
            found.extend(read_pem(_unbase64(one.strip(), "the chain")))
        else:
            read_certificate(one)
            found.append(one)
    return tuple(found)


def _gpu(one: dict[str, Any]) -> GpuFile:
    version = one.get("version", "1.0")
    if version != "1.0":
        raise GpuFileError(f"version {version!r:.40}: 1.0 is known", rule="version")
    arch = _text(one, "arch")
    if arch not in _ARCHITECTURES:
        raise GpuFileError(f"arch {arch!r:.40}: {' and '.join(_ARCHITECTURES)} are known")
    nonce = _text(one, "nonce")
    if not _HEX_NONCE.fullmatch(nonce):
        raise GpuFileError(f"nonce: {len(nonce)} characters, which are not {NONCE_BYTES} bytes in hexadecimal")
    versions = [name for name in ("driver_version", "vbios_version") if name in one]
    return GpuFile(
        report=_unbase64(_text(one, "evidence").encode(), "evidence"),
        chain=read_pem(_unbase64(_text(one, "certificate").encode(), "certificate")),
        nonce=bytes.fromhex(nonce),
        said=(("arch", arch), *((name, _text(one, name)) for name in versions)),
    )


def _collection(made: dict[str, Any]) -> tuple[GpuFile, ...]:
    asked = _message(made, "nonce", _NONCE) if "nonce" in made else None
    items = {name: one for name, one in made.items() if name not in (_COLLECTION, "nonce")}
    if not 1 <= len(items) <= MOST_GPUS:
        raise GpuFileError(f"evidence about {len(items)} GPUs: 1 to {MOST_GPUS}")
    found = []
    for name, one in items.items():
        if not isinstance(one, dict):
            raise GpuFileError(f"{name!r:.40} is no collection about one GPU")
        nonce = _message(one, "nonce", _NONCE)
        if len(nonce) != NONCE_BYTES or asked not in (None, nonce):
            raise GpuFileError(f"nonce: not {NONCE_BYTES} bytes, or another than all are said to answer")
        chain = read_pem(_message(one, "certificate", _CHAIN))
        found.append(GpuFile(report=_message(one, "evidence", _TRANSCRIPT), chain=chain, nonce=nonce))
    return tuple(found)


def _message(one: dict[str, Any], name: str, kind: str) -> bytes:
    """What stands under a name as a pair of its media type and base64."""
    match one.get(name):
        case [str(said), str(text)] if said == kind and text.isascii():
            found = from_base64(text.encode())
            if found is not None:
                return found
    raise GpuFileError(f"{name} is not there, or not base64 of the type {kind}")


def _text(one: dict[str, Any], name: str) -> str:
    value = one.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise GpuFileError(f"{name} is not there, or not a text")
    return value


def _json(text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise GpuFileError(f"not JSON: {error}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member that is there twice")
    return made


def _report(data: bytes) -> bytes:
    if data.startswith(_BEGINS):
        return data
    text = b"".join(data.split())
    if not text.startswith(_BEGINS_IN_HEX):
        return _unbase64(text, "the report")
    try:
        return binascii.unhexlify(text)
    except ValueError as error:
        raise GpuFileError(f"the report: not hexadecimal: {error}") from error


def _unbase64(text: bytes, what: str) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError as error:
        raise GpuFileError(f"{what}: not base64: {error}") from error


def _token(text: bytes) -> GpuFileError:
    """Why a token is refused."""
    algorithms = [_algorithm(header) for header in _JWT.findall(text)]
    if any(one is None or one.lower() == "none" for one in algorithms):
        return GpuFileError("a token that nobody signed (alg: none): anyone can write one", rule="algorithm")
    return GpuFileError(
        "what another verifier made of evidence, and no evidence: hand over the GPU's report itself", rule="token"
    )


def _algorithm(header: bytes) -> str | None:
    try:
        # An object, whatever it says: `eyJ` is how one begins.
        found = json.loads(base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4))).get("alg")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None
