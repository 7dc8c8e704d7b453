"""How a secret key rests: bytes that only fit the family and the parameters they were made for. For client halves alone.

    magic       4 bytes: which family made it
    digest      SHA-256 of the key's parameters (RFC 8785): models whose parameters for keys are equal share keys
    words       prime by prime, each word in its prime's number of bits, as SEAL holds the key (NTT form)

Opening one checks the length, then both fields, and then SEAL's own conditions on the words. Whatever fails is a `KeyStoreError`
that tells what was expected, and never a byte of the key.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import rfc8785

from blindgate_models.bitpacking import pack_rows, packed_bytes, unpack_rows
from blindgate_models.halves import Part
from blindgate_models.seal.serial import Secret, Words
from blindgate_protocol.errors import KeyStoreError

HEADER_BYTES: Final = 36  # magic (4), digest (32)


class SecretFormat:
    """The bytes of one family's secret keys, for one set of parameters."""

    def __init__(self, magic: bytes, key_parameters: Part, degree: int, bits: Sequence[int]) -> None:
        """Take the family's magic, what determines a key, the ring's degree, and the length of each prime of the key."""
        self._header = magic + hashlib.sha256(rfc8785.dumps(key_parameters)).digest()
        self._degree = degree
        self._bits = bits

    def write(self, words: Words) -> bytes:
        """The bytes of a key, `(primes, degree)` words."""
        return self._header + pack_rows(words, self._bits)

    def read(self, secret: bytes, load: Callable[[Words], Secret]) -> Secret:
        """Open a key. `load` is the ring's: it raises `ValueError` or `RuntimeError` on words that are no key. `KeyStoreError`."""
        expected = HEADER_BYTES + sum(packed_bytes(self._degree, length) for length in self._bits)
        if len(secret) != expected:
            msg = f"secret key: got {len(secret)} bytes, expected {expected}"
            raise KeyStoreError(msg)
        if not secret.startswith(self._header):
            msg = "secret key: made for another family or other parameters"
            raise KeyStoreError(msg)
        words = unpack_rows(memoryview(secret)[HEADER_BYTES:], self._degree, self._bits)
        try:
            return load(words)
        except (ValueError, RuntimeError):
            msg = "secret key: not a key of these parameters"
            raise KeyStoreError(msg) from None
