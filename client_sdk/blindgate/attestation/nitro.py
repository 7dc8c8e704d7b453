"""An attestation document of an AWS Nitro enclave: what the hypervisor says of an enclave that it started.

The document is a COSE_Sign1 of a CBOR map, signed by a certificate that lives for three hours, which comes with its chain. So:

1. the document has the form and the sizes that AWS gives it, and nothing stands behind it;
2. its one algorithm is ES384; the chain leads from AWS's root to the certificate in it, at the time that the document itself names;
   that certificate is of a key for signatures, and no authority's; and that key signed these bytes. Until here nothing that the
   document says becomes a fact;
3. PCR0 to PCR2, the measurements of the image, its kernel and its applications, are not zero: they are for an enclave in debug
   mode, whose memory the parent instance can read;
4. `user_data` and `nonce` are what was asked;
5. where a time was asked, the document is not of later, and its certificate was alive then. Without, it is judged for its own time,
   and only a nonce shows that it is fresh.

Others hand documents on in an envelope (dstack: two bytes of version, the length in SCALE's compact form, the document, and more):
the document in it is judged, the rest is not read.

Sources: AWS, "Nitro Enclaves, attestation process" (github.com/aws/aws-nitro-enclaves-nsm-api, docs/attestation_process.md);
RFC 9052, section 4.4; RFC 9053, section 2.1.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from blindgate.attestation.appraisal import Appraisal, Asked, Claim
from blindgate.attestation.chains import ChainError, check_validity, may_sign_messages, read_certificate, verify_chain
from blindgate.attestation.roots import NITRO
from blindgate_protocol.errors import MalformedError

PLATFORM: Final = "aws-nitro"
MAX_BYTES: Final = 32 << 10
_ES384: Final = -35
_SIGN1_TAG: Final = b"\xd2"
"""Tag 18 in CBOR."""
_SIGNATURE_BYTES: Final = 96
_PCR_BYTES: Final = 48
_MOST_PCRS: Final = 32
_YEAR_10000: Final = 253_402_300_800_000
_MEASURED: Final = (0, 1, 2)
_MEMBERS: Final = {
    "module_id": str,
    "digest": str,
    "timestamp": int,
    "pcrs": dict,
    "certificate": bytes,
    "cabundle": list,
}
_OPTIONAL: Final = {"public_key": range(1, 1025), "user_data": range(513), "nonce": range(513)}
"""What may be there, with how many bytes it may have. AWS's text forbids null in its place, and its hypervisors write it."""
_ENVELOPE: Final = b"\x00\x02"


def is_evidence(data: bytes) -> bool:
    """Whether this begins as such a document, or as an envelope around one."""
    return _opened(data)[:1] in {b"\x84", _SIGN1_TAG}


def appraise(data: bytes, asked: Asked) -> Appraisal:
    """Judge a document."""
    found = Appraisal(PLATFORM, asked.time)
    try:
        protected, payload, signature = _parts(_opened(data))
        header, members = _decoded(protected, "the protected header"), _members(payload)
        chain = [read_certificate(one) for one in (*members["cabundle"], members["certificate"])]
    except ChainError as error:
        found.disbelieve(error.rule, str(error))
        return found
    except MalformedError as error:
        found.disbelieve("form", str(error))
        return found
    found.at = members["timestamp"] if asked.at is None else asked.at
    # 2.
    if header != {1: _ES384}:
        found.disbelieve(
            "algorithm", f"the document must be signed by ES384 ({{1: {_ES384}}}); its header says {header!r}"
        )
        return found
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    if not _is_genuine(found, signed, signature, chain, members["timestamp"]):
        return found
    found.facts = _facts(members)
    _hold_measured(found, members["pcrs"])
    _hold_asked(found, members, asked)
    _hold_time(found, members["timestamp"], chain[-1], asked)
    found.leave_open("measurement", "whether the image (PCR0 to PCR2) is one that should run: a policy names those")
    found.leave_open("revocation", "whether AWS took a certificate of the chain back: no list was asked")
    found.leave_open(
        "platform-operator", "the hypervisor and its keys are AWS's: whoever controls those can say anything"
    )
    return found


def _opened(data: bytes) -> bytes:
    """The document itself."""
    if not data.startswith(_ENVELOPE) or len(data) < len(_ENVELOPE) + 4:
        return data
    begin = data[2]
    match begin & 3:  # SCALE's compact form
        case 1:
            size, at = int.from_bytes(data[2:4], "little") >> 2, 4
        case 2:
            size, at = int.from_bytes(data[2:6], "little") >> 2, 6
        case _:
            size, at = begin >> 2, 3
    return data[at : at + size]


def _parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The protected header, the payload and the signature of a COSE_Sign1, each as it is encoded. Raises `MalformedError`."""
    # The tag that says what it is may stand before it (RFC 9052, section 2), and changes nothing of what is signed.
    sign1 = _decoded(data.removeprefix(_SIGN1_TAG), "a COSE_Sign1")
    if not isinstance(sign1, (list, tuple)) or [type(part) for part in sign1] != [bytes, dict, bytes, bytes]:
        message = "a COSE_Sign1 has a protected header, a map, a payload and a signature"
        raise MalformedError(message)
    protected, unprotected, payload, signature = sign1
    if unprotected:
        message = f"the unprotected header, which nobody signed, has {len(unprotected)} members: it must be empty"
        raise MalformedError(message)
    if len(signature) != _SIGNATURE_BYTES:
        message = f"a signature of {len(signature)} bytes: one by ES384 has {_SIGNATURE_BYTES}"
        raise MalformedError(message)
    return protected, payload, signature


def _decoded(data: bytes, what: str) -> Any:
    if not 1 <= len(data) <= MAX_BYTES:
        message = f"{what} of {len(data)} bytes: at most {MAX_BYTES}"
        raise MalformedError(message)
    source = BytesIO(data)
    try:
        made = cbor2.CBORDecoder(source, read_size=1).decode()
    except Exception as error:  # whatever a decoder makes of hostile bytes
        message = f"{what}: {type(error).__name__}"
        raise MalformedError(message) from error
    if source.read(1):
        message = f"{what}: bytes stand behind it"
        raise MalformedError(message)
    return made


def _members(payload: bytes) -> dict[str, Any]:
    """What the document says, each member of its kind and size. Raises `MalformedError`."""
    members = _decoded(payload, "the document")
    if not isinstance(members, dict) or not _MEMBERS.keys() <= members.keys() <= _MEMBERS.keys() | _OPTIONAL.keys():
        message = f"the document has {', '.join(_MEMBERS)}, may have {', '.join(_OPTIONAL)}, and nothing else"
        raise MalformedError(message)
    for name, kind in _MEMBERS.items():
        if type(members[name]) is not kind:
            message = f"{name} must be of the kind {kind.__name__}, and is {type(members[name]).__name__}"
            raise MalformedError(message)
    for name, sizes in _OPTIONAL.items():
        value = members.setdefault(name, None)
        if value is not None and (not isinstance(value, bytes) or len(value) not in sizes):
            message = f"{name} must have {sizes[0]} to {sizes[-1]} bytes"
            raise MalformedError(message)
    if members["digest"] != "SHA384" or not 0 < members["timestamp"] < _YEAR_10000 or not members["module_id"]:
        message = "digest must be SHA384, timestamp milliseconds since 1970, and module_id a name"
        raise MalformedError(message)
    pcrs = members["pcrs"]
    # To Python, the keys `true` and 1.0 are the key 1.
    if not set(_MEASURED) <= pcrs.keys() <= set(range(_MOST_PCRS)) or any(
        type(place) is not int or not isinstance(one, bytes) or len(one) != _PCR_BYTES for place, one in pcrs.items()
    ):
        message = f"pcrs must have {_PCR_BYTES} bytes for each of 0 to 2, and may have them for up to {_MOST_PCRS - 1}"
        raise MalformedError(message)
    if not all(isinstance(one, bytes) for one in members["cabundle"]):
        message = "cabundle must be certificates in DER"
        raise MalformedError(message)
    return members


def _facts(members: Mapping[str, Any]) -> dict[str, Any]:
    pcrs = {f"pcr{index}": value.hex() for index, value in sorted(members["pcrs"].items()) if any(value)}
    given = {name: members[name].hex() for name in _OPTIONAL if members[name] is not None}
    made = datetime.fromtimestamp(members["timestamp"] / 1000, UTC)
    return {"module_id": members["module_id"], "time": made.isoformat(timespec="milliseconds"), **pcrs, **given}


def _is_genuine(found: Appraisal, signed: bytes, signature: bytes, chain: list[x509.Certificate], at: int) -> bool:
    try:
        root = verify_chain(chain, NITRO, at=at)
    except ChainError as error:
        found.disbelieve(error.rule, str(error))
        return False
    found.affirm(
        Claim.INSTANCE_IDENTITY, "chain", f"the chain leads from {root} to the document's certificate, at its own time"
    )
    if not may_sign_messages(chain[-1]):
        found.disbelieve("chain", "the document's certificate is not of a key that signs documents")
        return False
    key, half = chain[-1].public_key(), _SIGNATURE_BYTES // 2
    numbers = (int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        found.disbelieve("signature", "the document's certificate has no key on P-384")
        return False
    try:
        key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(SHA384()))
    except InvalidSignature:
        found.disbelieve("signature", "the document's signature does not verify under its certificate")
        return False
    found.affirm(Claim.INSTANCE_IDENTITY, "signature", "the hypervisor's key signed the document")
    found.affirm(Claim.HARDWARE, "platform", "AWS's root says that a Nitro hypervisor made it")
    found.affirm(
        Claim.RUNTIME_OPAQUE, "isolation", "the hypervisor keeps the parent instance out of the enclave's memory"
    )
    return True


def _hold_measured(found: Appraisal, pcrs: Mapping[int, bytes]) -> None:
    empty = [f"PCR{index}" for index in _MEASURED if not any(pcrs[index])]
    found.hold(
        Claim.CONFIGURATION,
        "debug",
        holds=not empty,
        shows="PCR0 to PCR2 are not zero: the enclave does not run in debug mode",
        fails=f"{', '.join(empty)} zero: the enclave runs in debug mode, where its parent instance can read it",
    )


def _hold_asked(found: Appraisal, members: Mapping[str, Any], asked: Asked) -> None:
    for name, rule, wanted, code, unasked in (
        (
            "user_data",
            "report-data",
            asked.report_data,
            "binding",
            "what the document must bind: nobody said it (--report-data)",
        ),
        (
            "nonce",
            "nonce",
            asked.nonce,
            "freshness",
            "that the document was made just now: no nonce was asked (--nonce)",
        ),
    ):
        got = members[name]
        if wanted is None:
            empty = "" if got is not None and any(got) else f"; its {name} is empty, and binds nothing"
            found.leave_open(code, unasked + empty)
            continue
        found.hold(
            Claim.SOURCED_DATA,
            rule,
            holds=any(wanted) and got == wanted,
            shows=f"{name} is what was asked",
            fails=f"{name} is {'missing' if got is None else got.hex()}, and {wanted.hex() or 'nothing'} was asked"
            + ("" if any(wanted) else ", which binds nothing"),
        )


def _hold_time(found: Appraisal, made: int, leaf: x509.Certificate, asked: Asked) -> None:
    if made > asked.time:
        found.refuse(Claim.INSTANCE_IDENTITY, "validity", "the document was made later than the time it is judged for")
    elif asked.at is not None:
        try:
            check_validity(leaf, asked.at)
        except ChainError as error:
            found.refuse(Claim.INSTANCE_IDENTITY, error.rule, f"the document is too old: {error}")
        else:
            found.affirm(Claim.INSTANCE_IDENTITY, "validity", "the document's certificate was alive at the time asked")
