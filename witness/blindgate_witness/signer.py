"""The witness's key: one line in a file that only its owner may read.

    PRIVATE+KEY+<name>+<id>+<base64 of the kind and the seed>

The line holds the name, since a key that cosigns under two names would be two witnesses to those who count, and its signatures do
not say under which (tlog-cosignature, "Ed25519 signed message").

A signer gives lines, not one line: a key of another kind would stand in a line of its own, and its signature beside this one.
"""

import base64
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.checkpoints import Checkpoint, cosign
from blindgate_protocol.errors import KeyStoreError, MalformedError
from blindgate_protocol.notes import KeyKind, VerifierKey

_HEAD: Final = "PRIVATE+KEY+"
_MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, repr=False)
class Signer:
    """A witness's name and its Ed25519 key."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> "Signer":
        """A fresh key under `name`. Raises `MalformedError` for a name that no verifier key can have."""
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

    def lines(self, checkpoint: Checkpoint, seconds: int) -> str:
        """The cosignature lines over `checkpoint`, at a time in seconds since 1970."""
        return str(cosign(checkpoint, self.private, name=self.name, seconds=seconds))

    def __repr__(self) -> str:
        return f"Signer({self.key})"


def load_signer(file: Path) -> Signer | None:
    """The key in `file`, or `None` where there is no such file. Raises `KeyStoreError` when others may read it."""
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
        signer = Signer(name, Ed25519PrivateKey.from_private_bytes(raw[1:]))
    except ValueError:
        signer = None
    if signer is None or _line(signer) != line:
        message = f"the key file {file} does not hold a witness's key: {_HEAD}<name>+<id>+<base64>"
        raise KeyStoreError(message)
    return signer


def save_signer(file: Path, signer: Signer) -> None:
    """Write the key, whole or not at all, and on disk when this returns. Raises `OSError`, `FileExistsError` among them."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"{_line(signer)}\n")
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


def _line(signer: Signer) -> str:
    seed = base64.b64encode(bytes([signer.key.kind]) + signer.private.private_bytes_raw()).decode()
    return f"{_HEAD}{signer.name}+{signer.key.id.hex()}+{seed}"
