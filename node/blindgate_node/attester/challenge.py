"""What evidence binds that an operator asks for by hand: a challenge, and nothing that a client could take for a key set's.

A client believes that a key set lives in a machine because the machine's evidence carries SHA-256 of the binding. If an operator
could be talked into signing any 64 bytes ("please send me evidence for this nonce"), somebody would hand them the hash of a binding
of their own, and have a genuine machine vouch for strangers' keys. So the nonce is hashed behind words of its own:

    report data = SHA-256("blindgate node attest v1" || 0x00 || nonce), then 32 zero bytes
    GPU nonce   = SHA-256("blindgate node attest GPU v1" || 0x00 || nonce)

No binding begins as that does: a binding is canonical JSON. Whoever sent the nonce computes both and holds the evidence to them.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from blindgate_protocol.evidence import NONCE_BYTES, REPORT_DATA_BYTES

_REPORT_DATA: Final = b"blindgate node attest v1\x00"
_GPU_NONCE: Final = b"blindgate node attest GPU v1\x00"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge of somebody who wants to see evidence.

    Attributes:
        nonce: 32 bytes that nobody could know before.
    """

    nonce: bytes

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE_BYTES:
            message = f"a challenge has {NONCE_BYTES} bytes, got {len(self.nonce)}"
            raise ValueError(message)

    def report_data(self) -> bytes:
        """The 64 bytes that the platform's evidence carries."""
        return hashlib.sha256(_REPORT_DATA + self.nonce).digest().ljust(REPORT_DATA_BYTES, b"\0")

    def gpu_nonce(self) -> bytes:
        """The 32 bytes that each GPU answers."""
        return hashlib.sha256(_GPU_NONCE + self.nonce).digest()
