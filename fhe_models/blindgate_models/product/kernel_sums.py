"""Sums of products by the kernel in C: words in numpy's arrays instead of SEAL's objects. See `product.sums`.

SEAL still draws each c1 from its seed, and takes the sums back for what comes after them.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from blindgate_models.native.kernel import TILE, Kernel, Modulus
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Ciphertext, Seeded, Words


class KernelSums:
    """See `product.sums.Sums`. Multipliers are words `(primes, tiles, blocks, groups, TILE)`, ciphertexts `(n, 2, primes, degree)`."""

    def __init__(self, ring: Ring, kernel: Kernel) -> None:
        """Over a ring whose primes are larger than t. Raises `ValueError` on another."""
        self._ring = ring
        self._kernel = kernel
        self._moduli = [Modulus.of(prime, ring.degree, ring.plain_modulus) for prime in ring.primes]

    def multipliers(self, polynomials: Iterable[NDArray[np.int64]], blocks: int, groups: int) -> Words:
        """Eight bytes a word, transformed into their places."""
        tiles = self._ring.degree // TILE
        words = np.empty((len(self._moduli), tiles, blocks * groups, TILE), dtype=np.uint64)
        for block, rows in enumerate(polynomials):
            for modulus, to in zip(self._moduli, words, strict=True):
                self._kernel.transform(rows, modulus, to, block * groups)
        return words.reshape(len(words), tiles, blocks, groups, TILE)

    def expand(self, seeded: Iterable[Seeded], count: int) -> Words:
        """The words of SEAL's ciphertexts."""
        words = np.empty((count, 2, len(self._moduli), self._ring.degree), dtype=np.uint64)
        for to, each in zip(words, seeded, strict=True):
            to[:] = self._ring.expanded_words(each)
        return words

    def sums(self, terms: Sequence[tuple[Words, Words]]) -> Iterator[Ciphertext | None]:
        """Prime by prime, all blocks at once."""
        blocks = terms[0][0].shape[2]
        totals = np.zeros((blocks, 2, len(self._moduli), self._ring.degree), dtype=np.uint64)
        for multipliers, polynomials in terms:
            for prime, (modulus, matrix) in enumerate(zip(self._moduli, multipliers, strict=True)):
                self._kernel.add_products(matrix, polynomials, modulus, prime, totals)
        for words in totals:
            yield self._ring.from_ntt_words(words) if words[1].any() else None
