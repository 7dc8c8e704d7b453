"""How large a modulus may be: the table of the Homomorphic Encryption Standard, and the check that both sides make.

The security of every scheme here rests on ring learning with errors in dimension `degree`; for a given dimension it
falls as the modulus grows. The figures are the largest total bit lengths of the modulus, special primes included, for a
classical attacker at 128 bits, a ternary secret and an error of standard deviation about 3.2: Albrecht et al.,
*Homomorphic Encryption Security Standard*, HomomorphicEncryption.org, November 2018, table 1. SEAL carries the same
figures (`CoeffModulus::MaxBitCount`).

A part is data from somebody else, so both halves call `require_128_bits` before they build anything from it. There is
no switch that turns it off.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from blindgate_protocol.errors import PackageError

MODULUS_BITS_AT_128: Final[Mapping[int, int]] = MappingProxyType(
    {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
)
"""Ring degree → the most bits that all primes of the modulus may have together."""

NOISE_BOUND: Final = 21
"""The largest coefficient of a fresh error: SEAL draws each as the difference of the Hamming weights of two 21-bit
strings (SEAL 4.1, `util/rlwe.cpp`, `sample_poly_cbd`; standard deviation 3.24)."""

SEED_BYTES: Final = 64
"""Length of the seed of SEAL's generator, which stands for a uniform polynomial in a fresh symmetric ciphertext."""


def require_128_bits(degree: int, primes: Sequence[int]) -> None:
    """Refuse parameters below 128-bit security.

    Args:
        degree: the ring's degree, a power of two.
        primes: the bit length of every prime of the modulus, the special prime included.

    Raises:
        PackageError: the table has no such degree, or the primes have more bits together than it allows.
    """
    allowed = MODULUS_BITS_AT_128.get(degree)
    if allowed is None:
        msg = f"parameters.degree: got {degree}, expected one of {', '.join(map(str, MODULUS_BITS_AT_128))}"
        raise PackageError(msg)
    total = sum(primes)
    if not primes or min(primes) < 1 or total > allowed:
        msg = f"parameters: a modulus of {total} bits at degree {degree}, expected 1 to {allowed} for 128-bit security"
        raise PackageError(msg)
