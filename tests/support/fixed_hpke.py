"""HPKE with an ephemeral key that is an argument: for vectors and tests, where the same bytes must come out again.

Libraries rightly take no ephemeral key from outside: with one that was used before, the seal is open. So what RFC 9180 does with
X25519 is written out here, and held to the RFC's own vectors and to the library (`tests/unit/test_sealing_vectors.py`). Nothing
that is installed imports it.
"""

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand


@dataclass(frozen=True)
class Hpke:
    """RFC 9180, base mode, single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-GCM with keys of `key_bytes`."""

    key_bytes: int = 32

    def schedule(self, ephemeral: bytes, public: bytes, info: bytes) -> dict[str, bytes]:
        """Sections 4.1 and 5.1: the encapsulation, and what is derived. `ephemeral` is the secret that must never be used twice."""
        secret = X25519PrivateKey.from_private_bytes(ephemeral)
        enc = secret.public_key().public_bytes_raw()
        shared = secret.exchange(X25519PublicKey.from_public_bytes(public))
        kem = b"KEM" + struct.pack(">H", 0x0020)
        prk = _extract(kem, b"", b"eae_prk", shared)
        shared_secret = _expand(kem, prk, b"shared_secret", enc + public, 32)
        suite = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, {16: 0x0001, 32: 0x0002}[self.key_bytes])
        hashed = _extract(suite, b"", b"psk_id_hash", b""), _extract(suite, b"", b"info_hash", info)
        context = b"\x00" + b"".join(hashed)
        prk = _extract(suite, shared_secret, b"secret", b"")
        key, nonce = (
            _expand(suite, prk, what, context, size) for what, size in ((b"key", self.key_bytes), (b"base_nonce", 12))
        )
        return {"enc": enc, "shared_secret": shared_secret, "key": key, "base_nonce": nonce}

    def seal(self, ephemeral: bytes, public: bytes, info: bytes, text: bytes, *, additional: bytes = b"") -> bytes:
        """`enc || ct`."""
        made = self.schedule(ephemeral, public, info)
        return made["enc"] + AESGCM(made["key"]).encrypt(made["base_nonce"], text, additional)


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return HKDF.extract(SHA256(), salt, b"HPKE-v1" + suite + label + material)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    return HKDFExpand(SHA256(), length, labeled).derive(prk)
