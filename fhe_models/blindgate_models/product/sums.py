"""Sums of products of a secret matrix with ciphertexts: what computes them, and who chooses.

Two implementations give the same ciphertexts, bit for bit: the kernel in C (`kernel_sums`), where one was compiled, and SEAL
(`seal_sums`). Both multiply every block by every group and add every product up, also where the matrix has nothing but zeros, so that time
says nothing of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.native.kernel import kernel
from blindgate_models.product.kernel_sums import KernelSums
from blindgate_models.product.seal_sums import SealSums
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Ciphertext, Seeded

Multipliers: TypeAlias = Any
"""W, ready to be multiplied with; only what made it can read it."""
Polynomials: TypeAlias = Sequence[Any]
"""An asker's ciphertexts, ready for products. A slice of them is some of them."""


class Sums(Protocol):
    """Over one ring."""

    def multipliers(self, polynomials: Iterable[NDArray[np.int64]], blocks: int, groups: int) -> Multipliers:
        """Encode W, for each block its groups' polynomials, `(groups, degree)` coefficients between -t and t.

        Raises `ValueError` on a coefficient that is not.
        """
        ...

    def expand(self, seeded: Iterable[Seeded], count: int) -> Polynomials:
        """Make the `count` ciphertexts whose c1 the seeds give. Raises `ValueError` on words past a prime."""
        ...

    def sums(self, terms: Sequence[tuple[Multipliers, Polynomials]]) -> Iterator[Ciphertext | None]:
        """For each block Σ polynomial · multiplier over the groups of all terms, in coefficients.

        `None` for a block of zeros: SEAL makes no ciphertext that everybody can read.
        """
        ...


def sums_over(ring: Ring) -> Sums:
    """The kernel's where there is one, else SEAL's."""
    compiled = kernel()
    return SealSums(ring) if compiled is None else KernelSums(ring, compiled)
