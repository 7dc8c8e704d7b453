"""Transforms of polynomials, sums of their products, and what follows them: by a library in C, compiled when this package is built.

The library is optional: `kernel()` says whether there is one, and `product.arithmetic` does the same with SEAL where there is none.
`BLINDGATE_KERNEL=sealapi` in the environment leaves it aside.

1. *One source.* A library tells the digest of the source that it was compiled from. One of another source than the file beside
   this module is not used, and a warning says so.
2. *Checked here.* C checks nothing. Every call goes through `Kernel`, which holds types, shapes, contiguity and bounds against
   each other before a pointer leaves Python. Memory is numpy's.
3. *Words* are below their primes: those of strangers were checked when they came (`seal.serial`), all others are made here.

Matrices lie in tiles of `TILE` words, `(primes, degree / TILE, polynomials, TILE)`: sums over polynomials read them from one end to
the other.
"""

import ctypes
import hashlib
import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

SETTING: Final = "BLINDGATE_KERNEL"
SOURCE: Final = Path(__file__).with_name("kernel.c")
LIBRARY: Final = Path(__file__).with_name("libkernel.so")
TILE: Final = 8
MOST_PRIME_BITS: Final = 56
_DEGREES: Final = tuple(1 << bits for bits in range(4, 14))

Words = NDArray[np.uint64]


class Moduli(NamedTuple):
    """What the kernel needs to know of a ring. A *factor* is a number with floor(number · 2^64 / p) beside it.

    Attributes:
        primes: each 1 modulo 2N, larger than t, of at most `MOST_PRIME_BITS` bits.
        degree: N.
        plain_modulus: t. Coefficients lie between -t and t, and stand for the residues of their classes nearest to 0.
        constants: what `struct modulus` holds, a row a prime.
        roots: `(primes, degree, 2)`: factors, the powers of SEAL's root in bit-reversed order.
        inverse_roots: those of its inverse.
        inverses: `(primes, primes, 2)`: factors, 1 over the prime of the row modulo the prime of the column, below the diagonal.
    """

    primes: tuple[int, ...]
    degree: int
    plain_modulus: int
    constants: Words
    roots: Words
    inverse_roots: Words
    inverses: Words

    @classmethod
    def of(cls, primes: Sequence[int], degree: int, plain_modulus: int) -> Self:
        """Reckon it out. Raises `ValueError` on numbers that the kernel was not made for."""
        if degree not in _DEGREES:
            msg = f"degree: got {degree}, expected a power of two from {_DEGREES[0]} to {_DEGREES[-1]}"
            raise ValueError(msg)
        if (
            not primes
            or min(primes) <= plain_modulus
            or max(primes) >> MOST_PRIME_BITS
            or any((p - 1) % (2 * degree) for p in primes)
        ):
            msg = f"primes: got {list(primes)}, expected up to {MOST_PRIME_BITS} bits, over {plain_modulus}, 1 modulo {2 * degree}"
            raise ValueError(msg)
        constants = []
        for prime in primes:
            factors = (_factor(number, prime) for number in (1, (1 << 64) % prime, pow(degree, -1, prime)))
            constants.append(
                [prime, *(number for factor in factors for number in factor), plain_modulus, (plain_modulus + 1) // 2]
            )
        roots = [least_root(prime, degree) for prime in primes]
        below = [
            [_factor(pow(last, -1, prime) if place < row else 0, prime) for place, prime in enumerate(primes)]
            for row, last in enumerate(primes)
        ]
        return cls(
            tuple(primes),
            degree,
            plain_modulus,
            np.array(constants, dtype=np.uint64),
            np.stack([_powers(root, prime, degree) for root, prime in zip(roots, primes, strict=True)]),
            np.stack([_powers(pow(root, -1, prime), prime, degree) for root, prime in zip(roots, primes, strict=True)]),
            np.array(below, dtype=np.uint64),
        )

    @property
    def tiles(self) -> int:
        """How many tiles a polynomial has, modulo each prime."""
        return self.degree // TILE


class Kernel:
    """The functions of a library, each behind its checks. They raise `ValueError` on arrays of another shape or type."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Take a library that was compiled from `SOURCE`."""
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._transform = library.blindgate_kernel_transform
        self._transform.argtypes = [pointer, pointer, size, size, size, pointer, pointer, size]
        self._add_products = library.blindgate_kernel_add_products
        self._add_products.argtypes = [pointer, pointer, pointer, size, size, size, size, pointer]
        self._finish = library.blindgate_kernel_finish
        self._finish.argtypes = [pointer, pointer, size, size, size, pointer, pointer, pointer]
        for function in (self._transform, self._add_products, self._finish):
            function.restype = None

    def transform(self, coefficients: NDArray[np.int64], moduli: Moduli, words: Words, start: int) -> None:
        """Transform polynomials into tiles, in SEAL's order.

        Args:
            coefficients: `(polynomials, degree)`, between -t and t; `ValueError` on others.
            moduli: the ring's.
            words: `(primes, tiles, all polynomials, TILE)`, of which these polynomials' are written, each below its prime.
            start: where in `words` the first of these polynomials belongs.
        """
        count, room, primes = len(coefficients), words.shape[2], len(moduli.primes)
        _require(coefficients, np.int64, (count, moduli.degree))
        _require(words, np.uint64, (primes, moduli.tiles, room, TILE), written=True)
        if not 0 <= start <= room - count:
            msg = f"start: got {start}, expected a place for {count} of {room} polynomials"
            raise ValueError(msg)
        if count and max(-int(coefficients.min()), int(coefficients.max())) >= moduli.plain_modulus:
            msg = "a coefficient is not below the plain modulus"
            raise ValueError(msg)
        to = words.ctypes.data + start * TILE * words.itemsize
        tables = moduli.constants.ctypes.data, moduli.roots.ctypes.data
        self._transform(coefficients.ctypes.data, to, count, primes, moduli.degree, *tables, room)

    def add_products(self, matrix: Words, vector: Words, moduli: Moduli, sums: Words) -> None:
        """Add Σ_j matrix[b, j] · vector[j] to the sums of every block b.

        Args:
            matrix: `(primes, tiles, blocks, groups, TILE)`.
            vector: `(groups, 2, primes, degree)`, ciphertexts in NTT form.
            moduli: the ring's.
            sums: `(blocks, 2, primes, degree)`, below their primes.
        """
        _, _, blocks, groups, _ = matrix.shape
        primes, degree = len(moduli.primes), moduli.degree
        _require(matrix, np.uint64, (primes, moduli.tiles, blocks, groups, TILE))
        _require(vector, np.uint64, (groups, 2, primes, degree))
        _require(sums, np.uint64, (blocks, 2, primes, degree), written=True)
        given = matrix.ctypes.data, vector.ctypes.data, sums.ctypes.data
        self._add_products(*given, blocks, groups, primes, degree, moduli.constants.ctypes.data)

    def finish(self, sums: Words, added: Words, moduli: Moduli) -> Words:
        """Turn sums into coefficients, add to them, and switch to the first prime: `(blocks, 2, degree)`. `sums` is written over.

        Args:
            sums: `(blocks, 2, primes, degree)`, in NTT form.
            added: as many coefficients, below their primes.
            moduli: the ring's.
        """
        primes, degree = len(moduli.primes), moduli.degree
        shape = (len(sums), 2, primes, degree)
        _require(sums, np.uint64, shape, written=True)
        _require(added, np.uint64, shape)
        tables = (table.ctypes.data for table in (moduli.constants, moduli.inverse_roots, moduli.inverses))
        self._finish(sums.ctypes.data, added.ctypes.data, 2 * len(sums), primes, degree, *tables)
        return sums[:, :, 0]


def kernel() -> Kernel | None:
    """The kernel, or `None` where there is none or `BLINDGATE_KERNEL` says `sealapi`. Raises `ValueError` on another setting."""
    chosen = os.environ.get(SETTING, "")
    if chosen not in {"", "sealapi"}:
        msg = f"{SETTING}: got {chosen!r}, expected 'sealapi' or nothing"
        raise ValueError(msg)
    return None if chosen else _loaded(LIBRARY)


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Kernel | None:
    if not path.exists():
        return None
    try:
        library = ctypes.CDLL(str(path))
        tell = library.blindgate_kernel_digest
        tell.restype = ctypes.c_char_p
        digest = tell()
    except (OSError, AttributeError):
        digest = None
    if digest != hashlib.sha256(SOURCE.read_bytes()).hexdigest().encode():
        warnings.warn(
            f"{path.name} was not compiled from {SOURCE.name}: SEAL computes in its place", RuntimeWarning, stacklevel=2
        )
        return None
    return Kernel(library)


def least_root(prime: int, degree: int) -> int:
    """The least number whose power of N is -1 modulo p: the one that SEAL takes."""
    candidates = (pow(base, (prime - 1) // (2 * degree), prime) for base in range(2, prime))
    found = next(root for root in candidates if pow(root, degree, prime) == prime - 1)
    square, roots = found * found % prime, [found]
    for _ in range(degree - 1):
        roots.append(roots[-1] * square % prime)
    return min(roots)


def _factor(number: int, prime: int) -> tuple[int, int]:
    return number, (number << 64) // prime


def _powers(root: int, prime: int, degree: int) -> Words:
    """Factors of the powers of `root`, `(degree, 2)`: the one at place i is that of i with its bits reversed."""
    powers = [1]
    for _ in range(degree - 1):
        powers.append(powers[-1] * root % prime)
    places = np.zeros(1, dtype=np.intp)
    while len(places) < degree:
        places = np.concatenate([2 * places, 2 * places + 1])
    return np.array([_factor(power, prime) for power in powers], dtype=np.uint64)[places]


def _require(array: NDArray[Any], kind: type[np.generic], shape: tuple[int, ...], *, written: bool = False) -> None:
    if (
        array.shape != shape
        or array.dtype != kind
        or not array.flags.c_contiguous
        or (written and not array.flags.writeable)
    ):
        msg = f"got an array {array.shape} of {array.dtype}, expected {shape} of {np.dtype(kind)}, contiguous"
        raise ValueError(msg)
