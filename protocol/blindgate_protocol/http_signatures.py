"""How a node signs its requests: RFC 9421 (HTTP Message Signatures) with Ed25519, and RFC 9530 for the body.

A signed request carries

    Content-Digest: sha-256=:<base64>:
    Signature-Input: node=("@method" "@target-uri" "content-digest" "blindgate-lease");created=<seconds>;
        nonce="<22 characters>";keyid="ed25519:…";alg="ed25519";tag="blindgate-node"
    Signature: node=:<base64>:

(`Signature-Input` on one line). Of what the RFC allows this is the one form that a node writes, so it is the only one that is
read: whoever accepts more has to think about more. `read_signature` and `RequestSignature.verify` establish, in this order:

1. both fields hold one signature under one label, and nothing else; each is the one serialisation of what it says;
2. the parameters are those above: a creation time, 128 bits of nonce, a key id, this algorithm, this tag;
3. it covers the method, the whole target, the digest of a body where there is one, and the lease where one is named;
4. it verifies under that key, for a target that the caller knows to be its own.

What they do not establish, and the caller must: that the key is an enrolled node's, that the time is now, that the nonce
is new, and that the body has that digest.

Everything here is a function of its arguments, time and nonces among them. Section 11 of docs/protocol.md.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature

from blindgate_protocol.canonical import DIGEST_PREFIX
from blindgate_protocol.errors import MalformedError, SignatureError
from blindgate_protocol.messages import LEASE_HEADER
from blindgate_protocol.signing import SigningKey, public_key

SIGNATURE: Final = "Signature"
SIGNATURE_INPUT: Final = "Signature-Input"
CONTENT_DIGEST: Final = "Content-Digest"
LABEL: Final = "node"
ALGORITHM: Final = "ed25519"
TAG: Final = "blindgate-node"
NONCE_BYTES: Final = 16

_LONGEST_INPUT: Final = 1024
_PARAMETERS: Final = ("created", "nonce", "keyid", "alg", "tag")
_STRING = r'"[ !#-\[\]-~]*"'  # printable ASCII; what would need a backslash is in none of ours
_KEY = r"[a-z*][a-z0-9_.*-]*"
_INPUT = re.compile(
    rf'(?P<label>{_KEY})=(?P<value>\((?P<covered>"[a-z0-9@-]+"(?: "[a-z0-9@-]+")*)?\)'
    rf"(?P<parameters>(?:;{_KEY}=(?:[0-9]{{1,15}}|{_STRING}))*))"
)
_PARAMETER = re.compile(rf";(?P<name>{_KEY})=(?:(?P<number>[0-9]{{1,15}})|(?P<string>{_STRING}))")
_SIGNATURE = re.compile(rf"(?P<label>{_KEY})=:(?P<value>[A-Za-z0-9+/]{{86}}==):")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_NONCE = re.compile(r"[A-Za-z0-9_-]{22}")
_KEY_ID = re.compile(r"ed25519:[A-Za-z0-9_-]{43}")
_FIELD_VALUE = re.compile(r"[\x20-\x7e]*")


# The form of the RFC


def signature_base(components: Sequence[tuple[str, str]], parameters: str) -> bytes:
    """What is signed (RFC 9421, 2.5): one line for each component, name and value, and one for the parameters.

    `parameters` is the inner list with its parameters as it stands in `Signature-Input`, without the label. Raises
    `MalformedError` for a value that would be more than one line.
    """
    lines = []
    for name, value in (*components, ("@signature-params", parameters)):
        if not _FIELD_VALUE.fullmatch(value):
            message = f"{name}: a signed value is printable ASCII"
            raise MalformedError(message)
        lines.append(f'"{name}": {value.strip()}')
    return "\n".join(lines).encode()


@dataclass(frozen=True)
class RequestSignature:
    """A signature that was parsed, and is not verified yet.

    Attributes:
        covered: the components that it says it covers, in order.
        parameters: its parameters, numbers as `int`.
        text: the inner list with its parameters, as it was signed.
        signature: 64 bytes.
    """

    covered: tuple[str, ...]
    parameters: Mapping[str, int | str]
    text: str
    signature: bytes

    @property
    def created(self) -> int:
        """When it was made, in seconds since 1970. Only of what `read_signature` gave."""
        return int(self.parameters["created"])

    @property
    def nonce(self) -> str:
        """128 bits in base64url. Only of what `read_signature` gave."""
        return str(self.parameters["nonce"])

    @property
    def key(self) -> str:
        """The id of the key that it says it was made with. Only of what `read_signature` gave."""
        return str(self.parameters["keyid"])

    def verify(self, method: str, targets: Iterable[str], fields: Mapping[str, str]) -> None:
        """Steps 3 and 4. `targets` are the URIs that this request may mean, `fields` those of `signed_fields`.

        Raises `MalformedError` when something is not covered, and `SignatureError`.
        """
        # 3.
        wanted = ("@method", "@target-uri", *fields)
        if self.covered != wanted:
            message = f"the signature must cover {', '.join(wanted)}, in this order, and nothing else"
            raise MalformedError(message)
        # 4.
        for target in targets:
            base = signature_base([("@method", method), ("@target-uri", target), *fields.items()], self.text)
            try:
                public_key(self.key).verify(self.signature, base)
            except (InvalidSignature, ValueError):
                continue
            return
        message = f"the request's signature does not verify under {self.key} for this gateway"
        raise SignatureError(message)


def parse_signature(given: str, signature: str) -> RequestSignature:
    """Step 1, for the values of both fields: any one signature of 64 bytes. Raises `MalformedError`."""
    found = _INPUT.fullmatch(given) if len(given) <= _LONGEST_INPUT else None
    if found is None:
        message = f"{SIGNATURE_INPUT} does not hold one signature in its canonical form"
        raise MalformedError(message)
    value = _SIGNATURE.fullmatch(signature)
    if value is None or value["label"] != found["label"]:
        message = f"{SIGNATURE} does not hold one Ed25519 signature under the label of {SIGNATURE_INPUT}"
        raise MalformedError(message)
    parameters: dict[str, int | str] = {}
    for each in _PARAMETER.finditer(found["parameters"]):
        number, string = each["number"], each["string"]
        if each["name"] in parameters or (number and str(int(number)) != number):
            message = f"{SIGNATURE_INPUT}: the parameter {each['name']} is there twice, or is no canonical number"
            raise MalformedError(message)
        parameters[each["name"]] = int(number) if number else string[1:-1]
    covered = tuple(name.strip('"') for name in (found["covered"] or "").split())
    if len(set(covered)) != len(covered):
        message = f"{SIGNATURE_INPUT} covers a component twice"
        raise MalformedError(message)
    return RequestSignature(covered, parameters, found["value"], _from_base64(value["value"]))


# Blindgate's profile


def read_signature(given: str, signature: str) -> RequestSignature:
    """Steps 1 and 2. Raises `MalformedError`."""
    parsed = parse_signature(given, signature)
    parameters = parsed.parameters
    if tuple(parameters) != _PARAMETERS:
        message = f"{SIGNATURE_INPUT} must have the parameters {', '.join(_PARAMETERS)}, in this order"
        raise MalformedError(message)
    right = (
        isinstance(parameters["created"], int)
        and _NONCE.fullmatch(str(parameters["nonce"]))
        and _KEY_ID.fullmatch(str(parameters["keyid"]))
        and (parameters["alg"], parameters["tag"]) == (ALGORITHM, TAG)
    )
    if not right:
        message = (
            f"{SIGNATURE_INPUT} must say created=<seconds>, nonce=<22 characters of base64url>, keyid=<a key id>,"
            f' alg="{ALGORITHM}", tag="{TAG}"'
        )
        raise MalformedError(message)
    return parsed


def signed_fields(content_digest: str | None, lease: str | None) -> dict[str, str]:
    """The header fields that a signature covers: the body's digest where there is a body, the lease where one is named."""
    fields = {CONTENT_DIGEST.lower(): content_digest, LEASE_HEADER.lower(): lease}
    return {name: value for name, value in fields.items() if value is not None}


def sign_request(  # noqa: PLR0913  (what is signed)
    key: SigningKey, *, method: str, target: str, fields: Mapping[str, str], created: int, nonce: bytes
) -> dict[str, str]:
    """The header fields `Signature-Input` and `Signature` of a request.

    `target` is the absolute URI, `fields` are those of `signed_fields`, `created` is in seconds since 1970, `nonce` has 16
    random bytes and is used for no other request.
    """
    covered = " ".join(f'"{name}"' for name in ("@method", "@target-uri", *fields))
    text = base64.urlsafe_b64encode(nonce).rstrip(b"=").decode()
    parameters = f'({covered});created={created};nonce="{text}";keyid="{key.id}";alg="{ALGORITHM}";tag="{TAG}"'
    base = signature_base([("@method", method), ("@target-uri", target), *fields.items()], parameters)
    signature = base64.b64encode(key.sign_bytes(base)).decode()
    return {SIGNATURE_INPUT: f"{LABEL}={parameters}", SIGNATURE: f"{LABEL}=:{signature}:"}


def content_digest(digest: str) -> str:
    """The value of `Content-Digest` for a body of this digest (`sha256:…`)."""
    raw = bytes.fromhex(digest.removeprefix(DIGEST_PREFIX))
    return f"sha-256=:{base64.b64encode(raw).decode()}:"


def parse_content_digest(text: str) -> str:
    """The digest (`sha256:…`) that a `Content-Digest` announces: SHA-256 and no other. Raises `MalformedError`."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        message = f"{CONTENT_DIGEST} must be sha-256=:<base64>:"
        raise MalformedError(message)
    return DIGEST_PREFIX + _from_base64(found[1]).hex()


def _from_base64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        message = "base64 that is not canonical"
        raise MalformedError(message)
    return data
