"""Signed notes: a text that people can read, with signature lines below it. C2SP's signed-note.

    the text, which ends with a newline
                                              (an empty line)
    — name base64(key id and signature)

A key is named by whoever uses it: the *verifier key* `name+id+key` is one line that fits into a policy, and the four bytes of its
id are bound to that name. So a signature under another name is no signature, whoever holds the key.

Three kinds of signature are understood:

- `ED25519`: over the text;
- `COSIGNATURE`: over the text and a time, by a witness that saw no other tree (tlog-cosignature);
- `ML_DSA_44`: likewise, by a key that a quantum computer does not break (`log_keys`).

`open_note` establishes that one line of each given key is there, once, and verifies; lines of keys that nobody asked about are left
alone, as the format says. Two lines of one key are refused.

Section 12 of docs/protocol.md.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from blindgate_protocol.errors import LogError, MalformedError

MAX_NOTE_BYTES: Final = 1 << 17
MOST_SIGNATURES: Final = 64
_ID_BYTES: Final = 4
_LINE: Final = re.compile(r"— ([^+\s]+) ([A-Za-z0-9+/]+={0,2})")
_NAME: Final = re.compile(r"[^+\s\x00-\x1f\ud800-\udfff]+")
_MOST_NAME_BYTES: Final = 255
"""What a signed message of ML-DSA-44 has room for."""


class KeyKind(IntEnum):
    """The first byte of a verifier key."""

    ED25519 = 0x01
    COSIGNATURE = 0x04
    ML_DSA_44 = 0x06


_KEY_BYTES: Final = {KeyKind.ED25519: 32, KeyKind.COSIGNATURE: 32, KeyKind.ML_DSA_44: 1312}


@dataclass(frozen=True)
class VerifierKey:
    """A key under the name that its owner uses: `name+id+key` as text. Making one raises `MalformedError`.

    Attributes:
        name: 1 to 255 bytes of UTF-8 without spaces, control characters or `+`.
        key: the public key as its algorithm encodes it: 32 bytes, or 1,312 of ML-DSA-44.
    """

    name: str
    kind: KeyKind
    key: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name.encode()) > _MOST_NAME_BYTES:
            message = f"a key's name has 1 to {_MOST_NAME_BYTES} bytes, and no space, control character or +"
            raise MalformedError(message)
        if len(self.key) != _KEY_BYTES[self.kind]:
            message = f"a key of kind {self.kind.name} has {_KEY_BYTES[self.kind]} bytes, got {len(self.key)}"
            raise MalformedError(message)

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read a verifier key. Raises `MalformedError`."""
        name, _, rest = text.partition("+")
        _, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
            found = cls(name, KeyKind(raw[0]), raw[1:])
        except (ValueError, IndexError) as error:
            message = "a verifier key is <name>+<8 hexadecimal digits>+<base64>, of a kind that is known here"
            raise MalformedError(message) from error
        if str(found) != text:
            message = "a verifier key whose id is not that of its name and key"
            raise MalformedError(message)
        return found

    @property
    def id(self) -> bytes:
        """The four bytes that a signature line begins with."""
        return hashlib.sha256(b"%b\n%c%b" % (self.name.encode(), self.kind, self.key)).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self.key).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"


@dataclass(frozen=True)
class SignatureLine:
    """One line below the text: whose it says it is, and what it holds. Nothing is verified yet."""

    name: str
    id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"— {self.name} {base64.b64encode(self.id + self.signature).decode()}\n"


@dataclass(frozen=True)
class Note:
    """A text and its lines."""

    text: str
    lines: tuple[SignatureLine, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(map(str, self.lines))}"

    def line_of(self, key: VerifierKey) -> SignatureLine | None:
        """The line of this key, or `None`. Raises `LogError` where there are two."""
        found = [line for line in self.lines if (line.name, line.id) == (key.name, key.id)]
        if len(found) > 1:
            message = f"two signature lines of {key.name}"
            raise LogError(message)
        return found[0] if found else None


def parse_note(data: bytes) -> Note:
    """Read a note; verifies nothing. Raises `MalformedError`."""
    if len(data) > MAX_NOTE_BYTES:
        message = f"a note of {len(data)} bytes: at most {MAX_NOTE_BYTES}"
        raise MalformedError(message)
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        message = "a note is UTF-8"
        raise MalformedError(message) from error
    if any(one < " " and one != "\n" for one in whole):
        message = "a note holds no control characters"
        raise MalformedError(message)
    text, gap, below = whole.rpartition("\n\n")
    lines = below.split("\n")
    if not gap or lines.pop() != "" or not 1 <= len(lines) <= MOST_SIGNATURES:
        message = "a note is a text, an empty line, and signature lines"
        raise MalformedError(message)
    return Note(f"{text}\n", tuple(_line(line) for line in lines))


def verify_line(text: str, line: SignatureLine, key: VerifierKey) -> None:
    """Decide whether `line` is this `ED25519` key's signature over `text`. Raises `LogError`."""
    if key.kind is not KeyKind.ED25519 or (line.name, line.id) != (key.name, key.id):
        message = f"no signature of {key.name} over this text"
        raise LogError(message)
    verify_ed25519(key, line.signature, text.encode())


def verify_ed25519(key: VerifierKey, signature: bytes, message: bytes) -> None:
    """Decide whether `signature` is of `key` over `message`. Raises `LogError`."""
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        text = f"the signature of {key.name} does not verify"
        raise LogError(text) from error


def open_note(data: bytes, keys: Sequence[VerifierKey]) -> Note:
    """Read a note that every one of `keys` (`ED25519`) must have signed. Raises `MalformedError` or `LogError`."""
    note = parse_note(data)
    for key in keys:
        line = note.line_of(key)
        if line is None:
            message = f"the note has no signature of {key.name} under the key that is known"
            raise LogError(message)
        verify_line(note.text, line, key)
    return note


def _line(text: str) -> SignatureLine:
    match = _LINE.fullmatch(text)
    try:
        raw = base64.b64decode(match.group(2), validate=True) if match else b""
    except binascii.Error:
        raw = b""
    if match is None or len(raw) <= _ID_BYTES or base64.b64encode(raw).decode() != match.group(2):
        message = "a signature line is: — name base64"
        raise MalformedError(message)
    return SignatureLine(match.group(1), raw[:_ID_BYTES], raw[_ID_BYTES:])
