"""The witness's keys: one line each, in files that only their owner may read.

    witness.key                 PRIVATE+KEY+<name>+<id>+<base64 of the kind and the seed>
    witness.key.ml-dsa-44       the same, of the second key, where there is one

The line holds the name, since a key that cosigns under two names would be two witnesses to those who count, and the signatures of
the first do not say under which (tlog-cosignature, "Ed25519 signed message").

The first key is Ed25519, which every reader knows. The second, ML-DSA-44 under the same name, signs what the first signs, at the
same time, in a line of its own: for readers who want a cosignature that still holds when the first can be forged. Both are one
witness.
"""

import base64
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import Checkpoint, cosign, cosign_by
from blindgate_protocol.errors import KeyStoreError, MalformedError
from blindgate_protocol.log_keys import LogKey
from blindgate_protocol.notes import KeyKind, VerifierKey

_HEAD: Final = "PRIVATE+KEY+"
_SECOND: Final = ".ml-dsa-44"
_MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, repr=False)
class Signer:
    """A witness's name and its keys.

    Attributes:
        private: the Ed25519 key.
        second: the ML-DSA-44 key, under the same name; `None` where the witness has none.
    """

    name: str
    private: Ed25519PrivateKey
    second: LogKey | None = None

    @classmethod
    def generate(cls, name: str) -> "Signer":
        """A fresh key under `name`, without a second. Raises `MalformedError` for a name that no verifier key can have."""
        made = cls(name, Ed25519PrivateKey.generate())
        try:
            VerifierKey.parse(str(made.key))
        except MalformedError as error:
            message = f"{name!r} is no name for a witness: 1 to 255 bytes, no space and no +"
            raise MalformedError(message) from error
        return made

    @property
    def key(self) -> VerifierKey:
        """What clients put into their policies."""
        return VerifierKey(self.name, KeyKind.COSIGNATURE, self.private.public_key().public_bytes_raw())

    @property
    def second_key(self) -> VerifierKey | None:
        """What those put there who want its cosignature by ML-DSA-44, in place of `key`."""
        return None if self.second is None else self.second.verifier

    def lines(self, checkpoint: Checkpoint, seconds: int) -> str:
        """The cosignature lines over `checkpoint`, one for each key, at a time in seconds since 1970."""
        first = cosign(checkpoint, self.private, name=self.name, seconds=seconds)
        return str(first) + ("" if self.second is None else str(cosign_by(checkpoint, self.second, seconds=seconds)))

    def __repr__(self) -> str:
        return f"Signer({self.key})"


def load_signer(file: Path) -> Signer | None:
    """The key in `file`, with the second beside it; `None` where there is no such file.

    Raises `KeyStoreError` when others may read one, or one holds something else, and `LogError` for a second key where
    `cryptography` has no ML-DSA-44.
    """
    first = _load(file, KeyKind.COSIGNATURE)
    if first is None:
        return None
    name = first.verifier.name
    second = _load(_beside(file), KeyKind.ML_DSA_44)
    if second is not None and second.verifier.name != name:
        message = f"the key file {_beside(file)} is of the witness {second.verifier.name!r}, and {file} of {name!r}"
        raise KeyStoreError(message)
    return Signer(name, Ed25519PrivateKey.from_private_bytes(first.seed()), second)


def save_signer(file: Path, signer: Signer) -> None:
    """Write the first key, whole or not at all, and on disk when this returns. Raises `OSError`, `FileExistsError` among them."""
    _save(file, _line(LogKey(signer.name, KeyKind.COSIGNATURE, signer.private)))


def add_second_key(file: Path, signer: Signer) -> Signer:
    """The signer of `file` with a fresh second key, which lies beside the first.

    Raises `OSError`, `FileExistsError` among them, and `LogError` where `cryptography` has no ML-DSA-44.
    """
    second = LogKey.generate(signer.name, KeyKind.ML_DSA_44)
    _save(_beside(file), _line(second))
    return replace(signer, second=second)


def _beside(file: Path) -> Path:
    return file.with_name(file.name + _SECOND)


def _load(file: Path, kind: KeyKind) -> LogKey | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"the key file {file} cannot be opened: {error.strerror}"
        raise KeyStoreError(message) from error
    with os.fdopen(descriptor, "rb") as opened:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            message = (
                f"the key file {file} can be read by others (mode {mode:04o}): chmod 600 it, or make a new witness"
            )
            raise KeyStoreError(message)
        line = opened.read(_MAX_FILE_BYTES).decode(errors="replace").removesuffix("\n")
    name, _, rest = line.removeprefix(_HEAD).partition("+")
    try:
        raw = base64.b64decode(rest.partition("+")[2], validate=True)
        key = LogKey.from_seed(name, kind, raw[1:])
    except (ValueError, MalformedError):
        key = None
    if key is None or _line(key) != line:
        message = f"the key file {file} does not hold a witness's key: {_HEAD}<name>+<id>+<base64>"
        raise KeyStoreError(message)
    return key


def _save(file: Path, line: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"{line}\n")
            opened.flush()
            os.fsync(opened.fileno())
        os.link(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _line(key: LogKey) -> str:
    told = key.verifier
    encoded = base64.b64encode(bytes([told.kind]) + key.seed()).decode()
    return f"{_HEAD}{told.name}+{told.id.hex()}+{encoded}"
