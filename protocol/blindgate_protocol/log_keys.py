"""The private keys of logs and witnesses: one value, whichever of the two algorithms is behind it.

Every log signs by Ed25519, since every reader of C2SP's notes knows it. A second line by ML-DSA-44 (FIPS 204) holds also against
whoever has a quantum computer by the time the log is read again, which for a record that is kept for years may be so. Witnesses
cosign by either.

ML-DSA-44 is `cryptography`'s, where the one that is installed has it. Where it has not, making, reading and verifying such a key
are refused with an error that says so: a signature that cannot be checked is never taken for one that was.

Section 12 of docs/protocol.md.
"""

from typing import TYPE_CHECKING, Final

import cryptography
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blindgate_protocol.errors import LogError, MalformedError
from blindgate_protocol.notes import KeyKind, VerifierKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

SEED_BYTES: Final = 32


class LogKey:
    """A private key with the name that it signs under. Its repr shows the public half only.

    Attributes:
        verifier: its public half: what others are given. `verifier.kind` says what its signatures mean.
    """

    def __init__(self, name: str, kind: KeyKind, private: "Ed25519PrivateKey | MLDSA44PrivateKey") -> None:
        """Name a key. Raises `MalformedError` for a name that no note can hold, or a kind that is not of this key."""
        self._private = private
        self.verifier = VerifierKey(name, kind, private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str, kind: KeyKind) -> "LogKey":
        """Make a fresh key. Raises `LogError` where there is no ML-DSA-44."""
        if kind is not KeyKind.ML_DSA_44:
            return cls(name, kind, Ed25519PrivateKey.generate())
        try:
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey  # noqa: PLC0415  (may lack)

            return cls(name, kind, MLDSA44PrivateKey.generate())
        except (ImportError, UnsupportedAlgorithm) as error:
            raise _lacking() from error

    @classmethod
    def from_seed(cls, name: str, kind: KeyKind, seed: bytes) -> "LogKey":
        """Build from the 32 secret bytes. Raises `MalformedError`, or `LogError` where there is no ML-DSA-44."""
        if len(seed) != SEED_BYTES:
            message = f"the seed of a log's key has {SEED_BYTES} bytes, got {len(seed)}"
            raise MalformedError(message)
        if kind is not KeyKind.ML_DSA_44:
            return cls(name, kind, Ed25519PrivateKey.from_private_bytes(seed))
        try:
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey  # noqa: PLC0415  (may lack)

            return cls(name, kind, MLDSA44PrivateKey.from_seed_bytes(seed))
        except (ImportError, UnsupportedAlgorithm) as error:
            raise _lacking() from error

    def seed(self) -> bytes:
        """The 32 secret bytes, for a file that only its owner reads."""
        return self._private.private_bytes_raw()

    def sign_bytes(self, message: bytes) -> bytes:
        """The bare signature: 64 bytes, or 2,420 of ML-DSA-44. What is signed is for `checkpoints` to say."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"LogKey({self.verifier.name}+{self.verifier.id.hex()}, {self.verifier.kind.name})"


def verify_ml_dsa_44(key: VerifierKey, signature: bytes, message: bytes) -> None:
    """Decide whether `signature` is of `key` over `message`. Raises `LogError`, also where there is no ML-DSA-44."""
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey  # noqa: PLC0415  (may lack)

        public = MLDSA44PublicKey.from_public_bytes(key.key)
    except (ImportError, UnsupportedAlgorithm) as error:
        raise _lacking() from error
    try:
        public.verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        text = f"the ML-DSA-44 signature of {key.name} does not verify"
        raise LogError(text) from error


def _lacking() -> LogError:
    return LogError(
        f"ML-DSA-44 is not in cryptography {cryptography.__version__} as it is installed here, so such a signature can be "
        "neither made nor checked: install a newer cryptography (50 has it)"
    )
