"""Where secrets rest: files that are sealed with a key which comes from a passphrase.

- Each secret is one file, AES-256-GCM, its name bound as associated data, so that files cannot be swapped for each other.
- The sealing key is scrypt (RFC 7914, N=2^17, r=8, p=1) over the passphrase and a random salt of the store.
- Without a passphrase the store makes a random one and keeps it in a file of its own outside the store, readable by its owner
  only. That protects a backup or a copy of the store; it does not protect from somebody who can read all of the user's files.
- Files are written whole or not at all, and a lock keeps two processes from making the same key twice.

`SecretStore` is the interface; an operating system's keyring or a KMS fills it as well. docs/adr/0002-key-store.md.
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from blindgate_protocol.errors import KeyStoreError

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**17, 8, 1
_NONCE_BYTES = 12
_HEADER = "store.json"
_PROBE = "probe"


class SecretStore(Protocol):
    """Holds secrets by name. Names are short and made of letters, digits, `.`, `-` and `_`."""

    def get(self, name: str) -> bytes | None:
        """The secret, or `None` where there is none. Raises `KeyStoreError`."""

    def put(self, name: str, secret: bytes) -> None:
        """Keep a secret, in place of what was there."""

    def delete(self, name: str) -> None:
        """Forget a secret; nothing happens where there is none."""

    def names(self) -> list[str]:
        """The names that are taken, in order."""

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other process out while something is looked for and made."""


class FileStore:
    """Secrets in sealed files under one folder."""

    def __init__(self, folder: Path, passphrase: str | None = None) -> None:
        """Open the store in `folder`, or make it. Raises `KeyStoreError` when the passphrase is not the store's."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.lock():
            self._cipher = AESGCM(self._sealing_key(passphrase))
            if self.get(_PROBE) is None:
                self.put(_PROBE, b"blindgate")

    def get(self, name: str) -> bytes | None:
        """The secret, or `None` where there is none. Raises `KeyStoreError`."""
        try:
            sealed = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError) as error:
            what = self._no_passphrase_of_ours() if name == _PROBE else f"{name} was altered"
            message = f"key store {self._folder}: {what}"
            raise KeyStoreError(message) from error

    def put(self, name: str, secret: bytes) -> None:
        """Keep a secret, in place of what was there."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        write_whole(self._path(name), nonce + self._cipher.encrypt(nonce, secret, name.encode()))

    def delete(self, name: str) -> None:
        """Forget a secret; nothing happens where there is none."""
        self._path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The names that are taken, in order."""
        taken = (path.name.removesuffix(".sealed") for path in self._folder.glob("*.sealed"))
        return sorted(name for name in taken if name != _PROBE)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process out while something is looked for and made."""
        with (self._folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def __repr__(self) -> str:
        return f"FileStore({str(self._folder)!r})"

    def _path(self, name: str) -> Path:
        if not name or name.startswith(".") or not all(c.isalnum() or c in "._-" for c in name):
            message = f"not a secret's name: {name!r}"
            raise KeyStoreError(message)
        return self._folder / f"{name}.sealed"

    def _sealing_key(self, passphrase: str | None) -> bytes:
        try:
            given = None if passphrase is None else passphrase.encode()
        except UnicodeEncodeError:
            what = "the passphrase is no text: where it was typed, the terminal's encoding is not UTF-8"
            message = f"key store {self._folder}: {what}"
            raise KeyStoreError(message) from None
        header = self._folder / _HEADER
        if not header.exists():
            text = {"version": 1, "kdf": "scrypt", "salt": secrets.token_hex(16)}
            write_whole(header, json.dumps(text).encode())
        try:
            stored = json.loads(header.read_bytes())
            if (stored["version"], stored["kdf"]) != (1, "scrypt"):
                message = f"key store {self._folder}: version {stored['version']} is not known to this release"
                raise KeyStoreError(message)
            salt = bytes.fromhex(stored["salt"])
        except (ValueError, KeyError, TypeError) as error:
            message = f"key store {self._folder}: {_HEADER} is damaged"
            raise KeyStoreError(message) from error
        kdf = Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
        return kdf.derive(self._own_passphrase().encode() if given is None else given)

    @property
    def _passphrase_file(self) -> Path:
        return self._folder.with_name(self._folder.name + ".passphrase")

    def _no_passphrase_of_ours(self) -> str:
        if self._passphrase_file.exists():
            return f"it was made without a passphrase, and opens without: its own lies in {self._passphrase_file}"
        return "the passphrase is not this store's"

    def _own_passphrase(self) -> str:
        path = self._passphrase_file
        try:
            return path.read_text()
        except FileNotFoundError:
            if any(self._folder.glob("*.sealed")):
                message = f"key store {self._folder} is sealed with a passphrase: give it, or set BLINDGATE_PASSPHRASE"
                raise KeyStoreError(message) from None
            made = secrets.token_urlsafe(32)
            write_whole(path, made.encode())
            return made


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file that only its owner can read, whole or not at all, and, unless told otherwise, past a power cut."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a disk that is full does not say which
        raise
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
