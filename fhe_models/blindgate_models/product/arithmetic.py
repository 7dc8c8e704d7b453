"""What a node computes of a secret product, from an asker's ciphertexts to words modulo the first prime: who does it.

Two implementations give the same words, bit for bit: the kernel in C (`kernel_arithmetic`), where one was compiled, and SEAL
(`seal_arithmetic`), which is also quicker for few outputs. Both multiply every block by every group and add every product up, also
where the matrix has nothing but zeros, so that time says nothing of it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blindgate_models.native.kernel import kernel
from blindgate_models.product.kernel_arithmetic import KernelArithmetic
from blindgate_models.product.seal_arithmetic import SealArithmetic
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Seeded, Words

Multipliers: TypeAlias = Any
"""W, ready to be multiplied with; only what made it can read it. So with the other three."""
Polynomials: TypeAlias = Any
"""An asker's ciphertexts. A slice of them is some of them."""
Constants: TypeAlias = Any
Noise: TypeAlias = Any


class Arithmetic(Protocol):
    """Over one ring."""

    def multipliers(self, polynomials: Iterable[NDArray[np.int64]], blocks: int, groups: int) -> Multipliers:
        """Encode W: for each block its groups' polynomials, `(groups, degree)` coefficients between -t and t.

        Raises `ValueError` on a coefficient that is not.
        """
        ...

    def constants(self, polynomials: NDArray[np.int64]) -> Constants:
        """Encode what is added to each block: `(blocks, degree)` coefficients from 0 to t - 1."""
        ...

    def noise(self, drawn: Words, constants: Constants) -> Noise:
        """Constants under noise: `drawn`, `(blocks, 2, primes, degree)` coefficients, may be written over."""
        ...

    def expand(self, seeded: Iterable[Seeded], count: int) -> Polynomials:
        """Make the `count` ciphertexts whose c1 the seeds give. Raises `ValueError` on words past a prime."""
        ...

    def reply(self, terms: Sequence[tuple[Multipliers, Polynomials]], added: Noise | Constants) -> Words:
        """For each block Σ polynomial · multiplier over the groups of all terms, and what is added, switched to the first prime.

        Coefficients, `(blocks, 2, degree)`.
        """
        ...


FEWEST_BLOCKS: Final = 5
"""With fewer, SEAL is quicker: words of c1 have to be read out of it for the kernel, which takes as long as some four products."""


def arithmetic_over(ring: Ring, blocks: int) -> Arithmetic:
    """For a W of so many blocks: the kernel's where there is one, and where it is quicker; else SEAL's.

    The kernel was made for t below every prime, as in all parameters with room to decrypt.
    """
    compiled = kernel()
    if compiled is None or blocks < FEWEST_BLOCKS or ring.plain_modulus >= min(ring.primes):
        return SealArithmetic(ring)
    return KernelArithmetic(ring, compiled)
