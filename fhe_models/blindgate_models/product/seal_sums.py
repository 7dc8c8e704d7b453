"""Sums of products by SEAL itself: where no kernel was compiled, and what the kernel is held against. See `product.sums`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Ciphertext, Plaintext, Seeded

Multipliers: TypeAlias = list[list[Plaintext | None]]
"""A plaintext for each block and group, `None` for one of zeros."""

_ONE: Final = np.array([[1]], dtype=np.int64)


class SealSums:
    """See `product.sums.Sums`.

    SEAL refuses to multiply by zero. Such a product is taken with 1 instead and added to a sum that nobody reads, so that it takes
    as long as any other.
    """

    def __init__(self, ring: Ring) -> None:
        """Over a ring."""
        self._ring = ring
        (self._stand_in,) = ring.multipliers(_ONE)

    def multipliers(self, polynomials: Iterable[NDArray[np.int64]], blocks: int, groups: int) -> Multipliers:
        """A plaintext for every polynomial; those of zeros are encoded as well, and not kept."""
        made: Multipliers = []
        for rows in polynomials:
            encoded = self._ring.multipliers(rows + ((rows >> 63) & self._ring.plain_modulus))
            made.append([each if any_number else None for each, any_number in zip(encoded, rows.any(axis=1), strict=True)])
        return made

    def expand(self, seeded: Iterable[Seeded], count: int) -> list[Ciphertext]:
        """SEAL's ciphertexts."""
        return [self._ring.expand(each) for each in seeded]

    def sums(self, terms: Sequence[tuple[Multipliers, Sequence[Ciphertext]]]) -> Iterator[Ciphertext | None]:
        """Term by term, group by group."""
        ciphertexts = [each for _, polynomials in terms for each in polynomials]
        idle = self._ring.times(ciphertexts[0], self._stand_in)
        for rows in zip(*(multipliers for multipliers, _ in terms), strict=True):
            total = self._total(ciphertexts, [factor for row in rows for factor in row], idle)
            if total is not None:
                self._ring.evaluator.transform_from_ntt_inplace(total)
            yield total

    def _total(
        self, polynomials: Sequence[Ciphertext], factors: Sequence[Plaintext | None], idle: Ciphertext
    ) -> Ciphertext | None:
        """Σ polynomial · factor, in NTT form; `None` without factors."""
        total = spare = None
        for polynomial, factor in zip(polynomials, factors, strict=True):
            product = self._ring.times(polynomial, self._stand_in if factor is None else factor, spare)
            if total is None and factor is not None:
                total, spare = product, None
                continue
            spare = product
            self._ring.evaluator.add_inplace(idle if factor is None else total, product)
        return total
