"""The key that signs checkpoints: a file that only the gateway's user may read.

Whoever has it can begin another log in this one's name. It lies beside the data and not in the database, so that a copy of the
database cannot sign; several gateways on one database share it by the setting `log_key`.
"""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.notes import KeyKind, VerifierKey

SEED_BYTES = 32


def load_key(path: Path) -> Ed25519PrivateKey | None:
    """The key in a file; `None` where there is no file. Raises `BlindgateError` for a file that holds none."""
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(seed) != SEED_BYTES:
        message = f"{path} is not a log's key: it has {len(seed)} bytes, a key has {SEED_BYTES}"
        raise BlindgateError(message)
    return Ed25519PrivateKey.from_private_bytes(seed)


def make_key(path: Path) -> Ed25519PrivateKey:
    """Make a key in a file that is not there yet, or take the one that somebody else made meanwhile."""
    key = Ed25519PrivateKey.generate()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key.private_bytes_raw())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)
    except FileExistsError:
        key = load_key(path) or key
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key


def verifier_key(origin: str, key: Ed25519PrivateKey) -> VerifierKey:
    """What others verify with."""
    return VerifierKey(origin, KeyKind.ED25519, key.public_key().public_bytes_raw())
