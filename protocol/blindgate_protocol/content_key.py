"""The one secret of a sealed job: 256 random bits that the client draws, and everything that is derived from them.

Every key is HKDF-SHA256 of the content key under an `info` that says what it is for, in canonical bytes: no two uses share a key,
and a key that is handed to somebody tells nothing of the others.

*Commitments.* A receipt says which prompt was read and which answer was given. A plain hash would let anybody who holds the receipt
try guesses, and prompts can be guessed. So it holds HMAC-SHA256 under a key of its own for each of the two: without the key it
says nothing, and with it (an owner may hand an auditor that one key) it opens to one text alone, since two texts with one
commitment, under any keys, would be a collision of SHA-256.

What Python keeps of a secret in memory is not wiped here: `bytes` cannot be.

Section 13 of docs/protocol.md.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Annotated, Final, Literal, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import StringConstraints

from blindgate_protocol.canonical import canonical
from blindgate_protocol.errors import CommitmentError, MalformedError

Draw = Callable[[int], bytes]
"""Gives so many random bytes."""

SECRET_BYTES: Final = 32
COMMITMENT_PREFIX: Final = "hmac-sha256:"

Committed = Annotated[str, StringConstraints(pattern=r"^hmac-sha256:[0-9a-f]{64}$")]
"""A commitment, as receipts hold it."""

Side = Literal["prompt", "answer"]


class ContentKey:
    """256 random bits, for one job. Its repr shows none of them."""

    def __init__(self, secret: bytes) -> None:
        """Take the 32 secret bytes. Raises `MalformedError`."""
        if len(secret) != SECRET_BYTES:
            message = f"a content key has {SECRET_BYTES} bytes, got {len(secret)}"
            raise MalformedError(message)
        self._secret = secret

    @classmethod
    def generate(cls, draw: Draw = secrets.token_bytes) -> Self:
        """Draw a fresh one."""
        return cls(draw(SECRET_BYTES))

    def secret(self) -> bytes:
        """The 32 secret bytes, to be sealed to a recipient."""
        return self._secret

    def derive(self, info: bytes, *, length: int, salt: bytes | None = None) -> bytes:
        """`length` bytes for the use that `info` names."""
        return HKDF(SHA256(), length, salt, info).derive(self._secret)

    def commitment(self, side: Side, *, job: str, order: str) -> "Commitment":
        """Begin a commitment to the prompt or the answer of a job, under a key of its own."""
        purpose = {"purpose": "blindgate commitment v1", "of": side, "job": job, "order": order}
        return Commitment(self.derive(canonical(purpose), length=SECRET_BYTES))

    def __repr__(self) -> str:
        return "ContentKey(…)"


class Commitment:
    """A commitment to bytes that come piece by piece. Its repr shows no key.

    Attributes:
        key: 32 bytes. Whoever has them can open this commitment and nothing else.
    """

    def __init__(self, key: bytes) -> None:
        """Begin with a commitment's own key. Raises `MalformedError`."""
        if len(key) != SECRET_BYTES:  # HMAC fills shorter keys up with zeros: two keys would open one commitment
            message = f"a commitment's key has {SECRET_BYTES} bytes, got {len(key)}"
            raise MalformedError(message)
        self.key = key
        self._mac = hmac.new(key, digestmod=hashlib.sha256)

    def add(self, data: bytes) -> None:
        """Go on with `data`: the bytes themselves, without chunks and padding."""
        self._mac.update(data)

    def value(self) -> str:
        """The commitment to everything that was added so far."""
        return COMMITMENT_PREFIX + self._mac.hexdigest()

    def check(self, committed: str) -> None:
        """Decide whether `committed` is to what was added. Raises `CommitmentError`."""
        if not hmac.compare_digest(self.value().encode(), committed.encode()):
            message = "the commitment is not to these bytes under this key"
            raise CommitmentError(message)

    def __repr__(self) -> str:
        return "Commitment(…)"
