"""Secret products by the kernel in C, on words in numpy's arrays instead of SEAL's objects. See `product.arithmetic`.

SEAL still draws each c1 from its seed.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from blindgate_models.native.kernel import TILE, Kernel, Moduli
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Seeded, Words


class KernelArithmetic:
    """See `product.arithmetic.Arithmetic`.

    Multipliers are words `(primes, tiles, blocks, groups, TILE)` in NTT form, and ciphertexts `(n, 2, primes, degree)` likewise;
    constants are coefficients, `(blocks, primes, degree)`, and so is noise, `(blocks, 2, primes, degree)`.
    """

    def __init__(self, ring: Ring, kernel: Kernel) -> None:
        """Over a ring whose primes are larger than t. Raises `ValueError` on another."""
        self._ring = ring
        self._kernel = kernel
        self._moduli = Moduli.of(ring.primes, ring.degree, ring.plain_modulus)

    def multipliers(self, polynomials: Iterable[NDArray[np.int64]], blocks: int, groups: int) -> Words:
        """Eight bytes a word, transformed into their places."""
        words = np.empty((len(self._ring.primes), self._moduli.tiles, blocks * groups, TILE), dtype=np.uint64)
        for block, rows in enumerate(polynomials):
            self._kernel.transform(rows, self._moduli, words, block * groups)
        return words.reshape(*words.shape[:2], blocks, groups, TILE)

    def constants(self, polynomials: NDArray[np.int64]) -> Words:
        """Scaled as SEAL scales what it adds to c0; nothing is added to c1."""
        return self._ring.scaled(polynomials)

    def noise(self, drawn: Words, constants: Words) -> Words:
        """Noise with constants added to c0."""
        total = drawn[:, 0]
        total += constants
        np.minimum(
            total, total - np.array(self._ring.primes, dtype=np.uint64)[:, None], out=total
        )  # below 0 is above all
        return drawn

    def expand(self, seeded: Iterable[Seeded], count: int) -> Words:
        """The words of SEAL's ciphertexts."""
        words = self._zeros(count)
        for to, each in zip(words, seeded, strict=True):
            self._ring.expand_words(each, to)
        return words

    def reply(self, terms: Sequence[tuple[Words, Words]], added: Words) -> Words:
        """All blocks at once."""
        blocks = len(added)
        if added.ndim == 3:  # noqa: PLR2004  (constants alone)
            added = self.noise(self._zeros(blocks), added)
        sums = self._zeros(blocks)
        for multipliers, polynomials in terms:
            self._kernel.add_products(multipliers, polynomials, self._moduli, sums)
        return self._kernel.finish(sums, added, self._moduli)

    def _zeros(self, count: int) -> Words:
        return np.zeros((count, 2, len(self._ring.primes), self._ring.degree), dtype=np.uint64)
