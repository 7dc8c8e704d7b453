"""Where a signing key rests on a machine that runs unattended: 32 bytes in a file that only its owner may read.

The node's key never leaves the node's own process: zygotes are started afresh, as another user where that is possible, and
see neither this file nor this memory. The operator's key uses the same file, and belongs on another machine.
"""

import os
import stat
from pathlib import Path

from blindgate_protocol.errors import KeyStoreError
from blindgate_protocol.signing import SigningKey

_SEED_BYTES = 32


def load_key(file: Path) -> SigningKey | None:
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
            message = f"the key file {file} can be read by others (mode {mode:04o}): chmod 600 it, or make a new key"
            raise KeyStoreError(message)
        seed = opened.read(_SEED_BYTES + 1)
    if len(seed) != _SEED_BYTES:
        message = f"the key file {file} does not hold {_SEED_BYTES} bytes"
        raise KeyStoreError(message)
    return SigningKey.from_seed(seed)


def load_or_create_key(file: Path) -> SigningKey:
    """The key in `file`; a fresh one is made on first use and is on disk before it is used. Raises `KeyStoreError`."""
    key = load_key(file)
    if key is not None:
        return key
    key = SigningKey.generate()
    file.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        write_private(file, key.seed(), replace=False)
    except FileExistsError:  # another process was faster
        return load_or_create_key(file)
    except OSError as error:
        message = f"the key file {file} cannot be written: {error.strerror}"
        raise KeyStoreError(message) from error
    return key


def write_private(file: Path, data: bytes, *, replace: bool) -> None:
    """Write a file that only its owner may read, whole or not at all. Raises `OSError`, `FileExistsError` among them."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        if replace:
            temporary.replace(file)
        else:
            os.link(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
