"""The keys that sign checkpoints: files that only the gateway's user may read.

Whoever has them can begin another log in this one's name. They lie beside the data and not in the database, so that a copy of the
database cannot sign; several gateways on one database share them by the setting `log_key`.

The first is Ed25519, which every reader of C2SP's notes knows. The second, ML-DSA-44 under the same name, lies in a file beside it
(`<log_key>.ml-dsa-44`): what is signed by both still holds when the first can be forged. Where `cryptography` cannot make one
when the log begins, the log has none.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import Checkpoint, sign_checkpoint
from blindgate_protocol.errors import BlindgateError, LogError
from blindgate_protocol.log_keys import SEED_BYTES, LogKey
from blindgate_protocol.notes import KeyKind, Note, VerifierKey

SECOND: Final = ".ml-dsa-44"


@dataclass(frozen=True)
class LogKeys:
    """What one log signs with."""

    first: LogKey
    second: LogKey | None

    @classmethod
    def load(cls, path: Path, key: VerifierKey, second: VerifierKey | None) -> "LogKeys | None":
        """The keys of the log that has these verifier keys; `None` where the files hold others, or are not there.

        Raises `BlindgateError` for a file that cannot be read, or holds no key.
        """
        found = _load(path, key.name, KeyKind.ED25519)
        if found is None or found.verifier != key:
            return None
        if second is None:
            return cls(found, None)
        other = _load(_beside(path), key.name, KeyKind.ML_DSA_44)
        return None if other is None or other.verifier != second else cls(found, other)

    @classmethod
    def make(cls, path: Path, origin: str) -> "LogKeys":
        """The keys that are there, or fresh ones, for a log that begins under this name. Raises `BlindgateError`."""
        try:
            first = _load(path, origin, KeyKind.ED25519) or _make(path, origin, KeyKind.ED25519)
            try:
                second = _load(_beside(path), origin, KeyKind.ML_DSA_44) or _make(
                    _beside(path), origin, KeyKind.ML_DSA_44
                )
            except LogError:  # cryptography lacks it
                second = None
        except OSError as error:
            message = (
                f"the log begins here, and its key cannot be made: {path}: {error.strerror}. Where the folder cannot be "
                "written, make it elsewhere, with `blindgate gateway log make-key FILE`, and put both files there"
            )
            raise BlindgateError(message) from error
        return cls(first, second)

    def sign(self, checkpoint: Checkpoint, *, seconds: int) -> Note:
        """The checkpoint with a line of each key."""
        private = Ed25519PrivateKey.from_private_bytes(self.first.seed())
        return sign_checkpoint(checkpoint, private, second=self.second, seconds=seconds)


def set_aside(path: Path, suffix: str) -> None:
    """Keep the files of a log that is over, under another name."""
    for one in (path, _beside(path)):
        if one.exists():
            one.rename(one.with_name(f"{one.name}.{suffix}"))


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SECOND)


def _load(path: Path, origin: str, kind: KeyKind) -> LogKey | None:
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"the log's key {path} cannot be read: {error.strerror}"
        raise BlindgateError(message) from error
    if len(seed) != SEED_BYTES:
        message = f"{path} is not a log's key: it has {len(seed)} bytes, a key has {SEED_BYTES}"
        raise BlindgateError(message)
    return LogKey.from_seed(origin, kind, seed)


def _make(path: Path, origin: str, kind: KeyKind) -> LogKey:
    """Make a key in a file that is not there yet, or take the one that somebody else made meanwhile."""
    key = LogKey.generate(origin, kind)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key.seed())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)
    except FileExistsError:
        key = _load(path, origin, kind) or key
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key
