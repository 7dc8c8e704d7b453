"""What a log commits itself to: so many entries, under this root. C2SP's tlog-checkpoint, tlog-cosignature and tlog-proof.

    origin                      the log's name
    20852163                    how many entries
    CsUYapGG…                   the root over them, base64

    — origin …                  the log's signature, by Ed25519
    — origin …                  where it has a second key, its line by ML-DSA-44
    — witness …                 cosignatures: no other tree was seen

`open_checkpoint` establishes, under a `LogTrust` (who the log is, which witnesses count, how many are wanted):

1. the text has the form, and is of the log that is trusted, by its origin; a tree without entries has the root of none;
2. the log's own signature is there, once, and verifies; so does that of its second key, where one is trusted;
3. of the trusted witnesses at least so many cosigned, each with a signature that verifies. A line of a trusted witness that does
   not verify refuses the whole; a witness counts once: two names for one key are one witness, and so are two keys of one name, as
   a witness has them that cosigns by both algorithms.

What it does not establish: that this tree continues one that was seen before (`merkle.verify_consistency`), and anything about
extension lines, which ML-DSA-44 does not sign and nobody here reads.

Section 12 of docs/protocol.md.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.log_keys import LogKey, verify_ml_dsa_44
from blindgate_protocol.merkle import EMPTY_ROOT, HASH_BYTES, verify_inclusion
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
MAX_PROOF_BYTES: Final = 1 << 18
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_MOST_ENTRIES: Final = 10**16
_TIME_BYTES: Final = 8
_MOST_NAME_BYTES: Final = 255
_MOST_SECONDS: Final = (1 << 63) - 1
_FORM: Final = "a checkpoint is an origin, a size and a root, each on its line"


@dataclass(frozen=True)
class Checkpoint:
    """A tree that a log says it is. Making one raises `MalformedError`.

    Attributes:
        origin: the log's name, on one line.
        size: how many entries, below 10^16.
        root: 32 bytes.
        extensions: further lines of the text, which nobody here understands.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if "" in lines or any("\n" in line for line in lines) or not 0 <= self.size < _MOST_ENTRIES:
            raise MalformedError(_FORM)
        if len(self.root) != HASH_BYTES:
            message = f"the root of a tree has {HASH_BYTES} bytes, got {len(self.root)}"
            raise MalformedError(message)

    def text(self) -> str:
        """What is signed."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read a checkpoint's text. Raises `MalformedError`."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":  # noqa: PLR2004  (three lines, and what is behind the last newline)
            raise MalformedError(_FORM)
        origin, size, root, *extensions = lines
        if not _SIZE.fullmatch(size):
            raise MalformedError(_FORM)
        return cls(origin, int(size), parse_hash(root), tuple(extensions))


@dataclass(frozen=True)
class LogTrust:
    """Whom to believe about a log. Making one raises `MalformedError` for a key that cannot do what it is named for.

    Attributes:
        log: the log's verifier key, of kind `ED25519`; its name is the log's origin.
        witnesses: verifier keys of the kinds that cosign, by the owner's name for the witness. The log's own key is none: it would
            vouch for itself.
        cosignatures: how many of the witnesses must have cosigned.
        second: the log's key of kind `ML_DSA_44`, under the same name. Where it is given, its line must be there too, and verify.
    """

    log: VerifierKey
    witnesses: Mapping[str, VerifierKey] = field(default_factory=dict)
    cosignatures: int = 0
    second: VerifierKey | None = None

    def __post_init__(self) -> None:
        if self.log.kind is not KeyKind.ED25519:
            message = f"the log's key is of kind {self.log.kind.name}, expected ED25519"
            raise MalformedError(message)
        if self.second is not None and (self.second.kind, self.second.name) != (KeyKind.ML_DSA_44, self.log.name):
            message = f"the second key of the log {self.log.name} is of kind ML_DSA_44 and has the log's name"
            raise MalformedError(message)
        own = {self.log.key, None if self.second is None else self.second.key}
        for name, key in self.witnesses.items():
            if key.kind is KeyKind.ED25519 or key.key in own:
                message = f"the key of the witness {name} is " + (
                    "the log's own: a witness is somebody else" if key.key in own else "none that cosigns"
                )
                raise MalformedError(message)


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
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        message = "a checkpoint of a tree without entries, under a root that is not the one of none"
        raise LogError(message)
    # 2.
    verify_line(note.text, _line_of_log(note, checkpoint, trust.log), trust.log)
    if trust.second is not None:
        _verify_timed(checkpoint, _line_of_log(note, checkpoint, trust.second), trust.second)
    # 3.
    cosigned: dict[str, int] = {}
    for name, key in trust.witnesses.items():
        line = note.line_of(key)
        if line is not None:
            cosigned[name] = verify_cosignature(checkpoint, line, key)
    keys = [trust.witnesses[name] for name in cosigned]
    count = min(len({key.key for key in keys}), len({key.name for key in keys}))
    if count < trust.cosignatures:
        message = (
            f"the checkpoint of {checkpoint.size} entries has {count} cosignatures of trusted witnesses; "
            f"{trust.cosignatures} are wanted"
        )
        raise LogError(message)
    return OpenedCheckpoint(checkpoint, cosigned, note)


def sign_checkpoint(
    checkpoint: Checkpoint, private: Ed25519PrivateKey, *, second: LogKey | None = None, seconds: int = 0
) -> Note:
    """A log's note of its own checkpoint; with a line of its `second` key (`ML_DSA_44`, under its origin) where it has one.

    `seconds`, since 1970, stand in the second line alone: with 0, as by default, it says nothing about when.
    """
    key = VerifierKey(checkpoint.origin, KeyKind.ED25519, private.public_key().public_bytes_raw())
    text = checkpoint.text()
    own = SignatureLine(key.name, key.id, private.sign(text.encode()))
    return Note(text, (own,) if second is None else (own, cosign_by(checkpoint, second, seconds=seconds)))


def cosign(checkpoint: Checkpoint, private: Ed25519PrivateKey, *, name: str, seconds: int) -> SignatureLine:
    """`cosign_by` an Ed25519 key under this name."""
    return cosign_by(checkpoint, LogKey(name, KeyKind.COSIGNATURE, private), seconds=seconds)


def cosign_by(checkpoint: Checkpoint, key: LogKey, *, seconds: int) -> SignatureLine:
    """A witness's line: at this time, this was the largest tree of the log that it had seen, and it continued all before.

    Raises `LogError` for a key that is of no kind that cosigns, for a time that is none, and for an origin of more than 255 bytes
    where ML-DSA-44 signs.
    """
    if not 0 <= seconds <= _MOST_SECONDS:
        message = f"a cosignature's time is in seconds since 1970, from 0 to 2^63 - 1, got {seconds}"
        raise LogError(message)
    signature = key.sign_bytes(signed_by(checkpoint, key.verifier, seconds))
    return SignatureLine(key.verifier.name, key.verifier.id, seconds.to_bytes(_TIME_BYTES, "big") + signature)


def verify_cosignature(checkpoint: Checkpoint, line: SignatureLine, key: VerifierKey) -> int:
    """Decide whether `line` is `key`'s cosignature. Gives its time, in seconds since 1970. Raises `LogError`.

    By ML-DSA-44, a line without a time (0) says only that this tree is consistent with others, not that it was the largest: it
    is refused, since that is not what a witness is asked for.
    """
    seconds = _verify_timed(checkpoint, line, key)
    if key.kind is KeyKind.ML_DSA_44 and seconds == 0:
        message = (
            f"the cosignature of {key.name} has no time: it does not say that this was the largest tree it had seen"
        )
        raise LogError(message)
    return seconds


def _line_of_log(note: Note, checkpoint: Checkpoint, key: VerifierKey) -> SignatureLine:
    line = note.line_of(key)
    if line is None:
        which = "trusted" if key.kind is KeyKind.ED25519 else "second"
        message = f"the checkpoint of {checkpoint.size} entries has no signature of the log's {which} key"
        raise LogError(message)
    return line


def _verify_timed(checkpoint: Checkpoint, line: SignatureLine, key: VerifierKey) -> int:
    seconds, signature = int.from_bytes(line.signature[:_TIME_BYTES], "big"), line.signature[_TIME_BYTES:]
    if (line.name, line.id) != (key.name, key.id) or not signature or seconds > _MOST_SECONDS:
        message = f"no cosignature of {key.name}"
        raise LogError(message)
    verify = verify_ml_dsa_44 if key.kind is KeyKind.ML_DSA_44 else verify_ed25519
    verify(key, signature, signed_by(checkpoint, key, seconds))
    return seconds


def signed_by(checkpoint: Checkpoint, key: VerifierKey, seconds: int) -> bytes:
    """What a key of this kind signs when it cosigns: tlog-cosignature's two messages. Raises `LogError` for one that does not."""
    if key.kind is KeyKind.COSIGNATURE:
        return f"cosignature/v1\ntime {seconds}\n{checkpoint.text()}".encode()
    if key.kind is not KeyKind.ML_DSA_44:
        message = f"the key of {key.name} is of kind {key.kind.name}, which does not cosign"
        raise LogError(message)
    cosigner, origin = key.name.encode(), checkpoint.origin.encode()
    if len(origin) > _MOST_NAME_BYTES:
        message = f"ML-DSA-44 signs for an origin of at most {_MOST_NAME_BYTES} bytes, got {len(origin)}"
        raise LogError(message)
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
        """Read a proof; verifies nothing. Raises `MalformedError`.

        A line of `extra` data, which nobody signed, is passed over.
        """
        if len(data) > MAX_PROOF_BYTES:
            message = f"a proof of {len(data)} bytes: at most {MAX_PROOF_BYTES}"
            raise MalformedError(message)
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
