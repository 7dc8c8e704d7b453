"""What a log commits itself to: so many entries, under this root. C2SP's tlog-checkpoint, tlog-cosignature and tlog-proof.

    origin                      the log's name
    20852163                    how many entries
    CsUYapGG…                   the root over them, base64

    — origin …                  the log's signature
    — witness …                 cosignatures: no other tree was seen

`open_checkpoint` establishes, under a `LogTrust` (who the log is, which witnesses count, how many are wanted):

1. the text has the form, and is of the log that is trusted, by its origin;
2. the log's own signature is there, once, and verifies;
3. of the trusted witnesses at least so many cosigned, each with a signature that verifies. A line of a trusted witness that does
   not verify refuses the whole; a witness counts once, with whatever keys.

What it does not establish: that this tree continues one that was seen before (`merkle.verify_consistency`).

Section 12 of docs/protocol.md.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.merkle import HASH_BYTES, verify_inclusion
from blindgate_protocol.notes import (
    KeyKind,
    Note,
    SignatureLine,
    VerifierKey,
    parse_note,
    verify_ed25519,
    verify_line,
)

PROOF_HEAD: Final = "c2sp.org/tlog-proof@v1"
MOST_HASHES: Final = 64
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_TIME_BYTES: Final = 8


@dataclass(frozen=True)
class Checkpoint:
    """A tree that a log says it is.

    Attributes:
        extensions: further lines of the text, which nobody here understands.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """What is signed."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read a checkpoint's text. Raises `MalformedError`."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":  # noqa: PLR2004  (three lines, and what is behind the last newline)
            message = "a checkpoint is an origin, a size and a root, each on its line"
            raise MalformedError(message)
        origin, size, root, *extensions = lines
        if not origin or not _SIZE.fullmatch(size) or "" in extensions:
            message = "a checkpoint is an origin, a size and a root, each on its line"
            raise MalformedError(message)
        return cls(origin, int(size), parse_hash(root), tuple(extensions))


@dataclass(frozen=True)
class LogTrust:
    """Whom to believe about a log.

    Attributes:
        log: the log's verifier key; its name is the log's origin.
        witnesses: verifier keys, by the owner's name for the witness.
        cosignatures: how many of the witnesses must have cosigned.
    """

    log: VerifierKey
    witnesses: Mapping[str, VerifierKey] = field(default_factory=dict)
    cosignatures: int = 0


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint whose signatures were verified.

    Attributes:
        cosigned: when each trusted witness cosigned, by its name, in seconds since 1970.
    """

    checkpoint: Checkpoint
    cosigned: Mapping[str, int]
    note: Note


def open_checkpoint(data: bytes, trust: LogTrust) -> OpenedCheckpoint:
    """Verify a checkpoint (steps 1 to 3 above). Raises `MalformedError` or `LogError`."""
    note = parse_note(data)
    # 1.
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != trust.log.name:
        message = f"a checkpoint of the log {checkpoint.origin!r}, expected one of {trust.log.name!r}"
        raise LogError(message)
    # 2.
    line = note.line_of(trust.log)
    if line is None:
        message = f"the checkpoint of {checkpoint.size} entries has no signature of the log's trusted key"
        raise LogError(message)
    verify_line(note.text, line, trust.log)
    # 3.
    cosigned: dict[str, int] = {}
    for name, key in trust.witnesses.items():
        line = note.line_of(key)
        if line is not None:
            cosigned[name] = verify_cosignature(checkpoint, line, key)
    keys = {trust.witnesses[name].key for name in cosigned}
    if len(keys) < trust.cosignatures:
        message = (
            f"the checkpoint of {checkpoint.size} entries has {len(keys)} cosignatures of trusted witnesses; "
            f"{trust.cosignatures} are wanted"
        )
        raise LogError(message)
    return OpenedCheckpoint(checkpoint, cosigned, note)


def sign_checkpoint(checkpoint: Checkpoint, private: Ed25519PrivateKey) -> Note:
    """A log's note of its own checkpoint."""
    key = VerifierKey(checkpoint.origin, KeyKind.ED25519, private.public_key().public_bytes_raw())
    text = checkpoint.text()
    return Note(text, (SignatureLine(key.name, key.id, private.sign(text.encode())),))


def cosign(checkpoint: Checkpoint, private: Ed25519PrivateKey, *, name: str, seconds: int) -> SignatureLine:
    """A witness's line: at this time, this was the largest tree of the log that it had seen, and it continued all before."""
    key = VerifierKey(name, KeyKind.COSIGNATURE, private.public_key().public_bytes_raw())
    signature = private.sign(_cosigned(checkpoint, seconds))
    return SignatureLine(name, key.id, seconds.to_bytes(_TIME_BYTES, "big") + signature)


def verify_cosignature(checkpoint: Checkpoint, line: SignatureLine, key: VerifierKey) -> int:
    """Decide whether `line` is `key`'s cosignature. Gives its time, in seconds since 1970. Raises `LogError`."""
    seconds = int.from_bytes(line.signature[:_TIME_BYTES], "big")
    if (line.name, line.id) != (key.name, key.id) or len(line.signature) <= _TIME_BYTES or seconds >= 1 << 63:
        message = f"no cosignature of {key.name}"
        raise LogError(message)
    signature = line.signature[_TIME_BYTES:]
    if key.kind is KeyKind.COSIGNATURE:
        verify_ed25519(key, signature, _cosigned(checkpoint, seconds))
    elif key.kind is KeyKind.ML_DSA_44:
        _verify_ml_dsa(key, signature, _cosigned_message(checkpoint, key.name, seconds))
    else:
        message = f"the key of {key.name} is none that cosigns"
        raise LogError(message)
    return seconds


def _cosigned(checkpoint: Checkpoint, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{checkpoint.text()}".encode()


def _cosigned_message(checkpoint: Checkpoint, name: str, seconds: int) -> bytes:
    """The `cosigned_message` of tlog-cosignature, for a whole tree."""
    cosigner, origin = name.encode(), checkpoint.origin.encode()
    return b"".join(
        (
            b"subtree/v1\n\0",
            bytes([len(cosigner)]) + cosigner,
            seconds.to_bytes(8, "big"),
            bytes([len(origin)]) + origin,
            (0).to_bytes(8, "big"),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def _verify_ml_dsa(key: VerifierKey, signature: bytes, message: bytes) -> None:
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey  # noqa: PLC0415  (newer builds)

        MLDSA44PublicKey.from_public_bytes(key.key).verify(signature, message)
    except (ImportError, InvalidSignature, ValueError) as error:
        text = f"the signature of {key.name} does not verify"
        raise LogError(text) from error


# Proofs that travel


@dataclass(frozen=True)
class EntryProof:
    """A tlog-proof: where an entry stands, the way to the root, and the checkpoint with that root."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def to_bytes(self) -> bytes:
        """The proof as text."""
        lines = (PROOF_HEAD, f"index {self.index}", *(base64.b64encode(one).decode() for one in self.hashes))
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> "EntryProof":
        """Read a proof; verifies nothing. Raises `MalformedError`."""
        head, gap, checkpoint = data.partition(b"\n\n")
        lines = head.decode(errors="replace").split("\n")
        if not gap or lines[0] != PROOF_HEAD:
            message = f"a proof begins with {PROOF_HEAD}"
            raise MalformedError(message)
        rest = lines[2:] if len(lines) > 1 and lines[1].startswith("extra ") else lines[1:]
        place = rest.pop(0) if rest else ""
        if not place.startswith("index ") or not _SIZE.fullmatch(place[6:]) or len(rest) > MOST_HASHES:
            message = "a proof names the index of its entry, and at most 64 hashes"
            raise MalformedError(message)
        return cls(int(place[6:]), tuple(parse_hash(line) for line in rest), checkpoint)

    def verify(self, leaf: bytes, trust: LogTrust) -> OpenedCheckpoint:
        """Decide whether the entry with this leaf hash stands in the trusted log. Raises `MalformedError` or `LogError`."""
        opened = open_checkpoint(self.checkpoint, trust)
        tree = opened.checkpoint
        verify_inclusion(index=self.index, size=tree.size, leaf=leaf, proof=self.hashes, root=tree.root)
        return opened


def parse_hash(text: str) -> bytes:
    """The hash that this base64 is. Raises `MalformedError`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != HASH_BYTES or base64.b64encode(raw).decode() != text:
        message = f"a hash is the base64 of {HASH_BYTES} bytes"
        raise MalformedError(message)
    return raw


def proof_lines(hashes: Sequence[bytes]) -> str:
    """Hashes as lines, as witnesses are sent them."""
    return "".join(f"{base64.b64encode(one).decode()}\n" for one in hashes)
