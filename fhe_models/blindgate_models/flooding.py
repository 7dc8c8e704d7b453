"""Noise that drowns what a reply says about the matrix it was computed with, and how well it does.

An asker knows the noise e of its own ciphertexts. A reply's noise holds e·w for the secret numbers w, so an unflooded reply
gives them away: a simulation found all weights of a model in one. Flooding adds, to every word that is sent, a sum of four
uniform numbers of half-width h = 2^b.

- **How well**: a reply with noise x + F is told from one that holds F alone by at most the total variation of F and F + x. That is
  at most √2 times their Hellinger distance, whose square is x²·I/8 to second order with the Fisher information I of F, and adds up
  over replies: n of them are told apart by at most x_rms · √(n·I) / 2. For four uniforms 1/√I = 1.13 h (`FISHER_WIDTH`; a test
  computes it, and another tries the best test there is). Two models are told apart by twice that at most.
- **At what price**: four uniforms have a hard maximum, 4h, so h is chosen to leave a known share of the room for decryption.

A single uniform would be told apart at its edges; a Gaussian has no hard maximum.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blindgate_models.randomness import SYSTEM, Source

FISHER_WIDTH: Final = 1.13
"""1/√I of a sum of four uniforms on [-1, 1], rounded down."""

TERMS: Final = 4
_BYTE: Final = 8
_MOST_PRIME_BITS: Final = 64 - _BYTE


def distinguishing_bits(shift: float, flood_bits: int, words: float) -> float:
    """-log2 of the advantage of telling two matrices apart by `words` flooded words.

    `shift` is the root mean square of what the matrix adds to a word's noise.
    """
    if shift <= 0:
        return math.inf
    return flood_bits + 1 + math.log2(FISHER_WIDTH) - math.log2(shift) - math.log2(words) / 2


def flood(flood_bits: int, count: int, primes: Sequence[int], source: Source = SYSTEM) -> NDArray[np.uint64]:
    """`count` sums of four uniform numbers from -2^b to 2^b - 1, modulo each prime: `(primes, count)`."""
    if max(primes).bit_length() > _MOST_PRIME_BITS:
        msg = f"primes: got one of {max(primes).bit_length()} bits, expected at most {_MOST_PRIME_BITS}"
        raise ValueError(msg)
    rows = -(-(flood_bits + 1) // _BYTE)
    digits = np.frombuffer(source(rows * TERMS * count), dtype=np.uint8).reshape(rows, -1).astype(np.uint64)
    digits[0] &= np.uint64((1 << (flood_bits + 1 - _BYTE * (rows - 1))) - 1)
    sums = np.empty((len(primes), count), dtype=np.uint64)
    for row, prime in enumerate(primes):
        modulus = np.uint64(prime)
        residue = np.zeros(TERMS * count, dtype=np.uint64)
        for digit in digits:  # Horner's rule in base 256
            residue = ((residue << np.uint64(_BYTE)) | digit) % modulus
        total = residue.reshape(TERMS, count).sum(axis=0)
        centre = TERMS * pow(2, flood_bits, prime) % prime
        sums[row] = (total + np.uint64(prime - centre)) % modulus
    return sums
