"""Secret products by SEAL itself: where no kernel was compiled, and what the kernel is held against. See `product.arithmetic`."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Ciphertext, Plaintext, Seeded, Words

Multipliers: TypeAlias = list[list[Plaintext | None]]
"""A plaintext for each block and group, `None` for one of zeros."""

_ONE: Final = np.array([[1]], dtype=np.int64)


class SealArithmetic:
    """See `product.arithmetic.Arithmetic`.

    SEAL refuses to multiply by zero. Such a product is taken with 1 instead and added to a sum that nobody reads, so that it takes
    as long as any other.
    """

    def __init__(self, ring: Ring) -> None:
        """Over a ring."""
        self._ring = ring
        (self._stand_in,) = ring.multipliers(_ONE)

    def multipliers(
        self,
        polynomials: Iterable[NDArray[np.int64]],
        blocks: int,  # noqa: ARG002  (the kernel makes room for as many)
        groups: int,  # noqa: ARG002  (likewise)
    ) -> Multipliers:
        """A plaintext for every polynomial; those of zeros are encoded as well, and not kept."""
        made: Multipliers = []
        for rows in polynomials:
            encoded = self._ring.multipliers(rows + ((rows >> 63) & self._ring.plain_modulus))
            made.append(
                [each if any_number else None for each, any_number in zip(encoded, rows.any(axis=1), strict=True)]
            )
        return made

    def constants(self, polynomials: NDArray[np.int64]) -> list[Plaintext]:
        """A plaintext a block."""
        return list(self._ring.plaintexts(polynomials))

    def noise(self, drawn: Words, constants: list[Plaintext]) -> list[Ciphertext]:
        """A ciphertext a block."""
        covered = [self._ring.from_words(words) for words in drawn]
        for ciphertext, constant in zip(covered, constants, strict=True):
            self._ring.evaluator.add_plain_inplace(ciphertext, constant)
        return covered

    def expand(self, seeded: Iterable[Seeded], count: int) -> list[Ciphertext]:  # noqa: ARG002  (likewise)
        """SEAL's ciphertexts."""
        return [self._ring.expand(each) for each in seeded]

    def reply(
        self, terms: Sequence[tuple[Multipliers, Sequence[Ciphertext]]], added: list[Ciphertext] | list[Plaintext]
    ) -> Words:
        """Block by block, term by term, group by group."""
        ciphertexts = [each for _, polynomials in terms for each in polynomials]
        idle = self._ring.times(ciphertexts[0], self._stand_in)
        return np.stack(
            [
                self._finished(self._total(ciphertexts, [factor for row in rows for factor in row], idle), more)
                for more, *rows in zip(added, *(multipliers for multipliers, _ in terms), strict=True)
            ]
        )

    def _finished(self, total: Ciphertext | None, more: Ciphertext | Plaintext) -> Words:
        if total is None:  # a block of zeros, in a product that is not covered
            return self._ring.in_clear(more)
        self._ring.evaluator.transform_from_ntt_inplace(total)
        if isinstance(more, sealapi.Plaintext):
            self._ring.evaluator.add_plain_inplace(total, more)
        else:
            self._ring.evaluator.add_inplace(total, more)
        return self._ring.to_last_prime(total)

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
