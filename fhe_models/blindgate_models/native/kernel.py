"""Transforms and sums of products of polynomials, by a library in C that was compiled when this package was built.

The library is optional: `kernel()` says whether there is one, and `product.sums` computes the same with SEAL where there is none.
`BLINDGATE_KERNEL=sealapi` in the environment leaves it aside.

1. *One source.* A library tells the digest of the source that it was compiled from. One of another source than the file beside this
   module is not used, and a warning says so.
2. *Checked here.* C checks nothing. Every call goes through `Kernel`, which holds types, shapes, contiguity and bounds against each other
   before a pointer leaves Python. Memory is numpy's.
3. *Words* are below their primes: those of strangers were checked when they came (`seal.serial`), all others are made here.

Matrices lie in tiles of `TILE` words, `(degree / TILE, polynomials, TILE)`: a sum over polynomials reads them from one end to the other.
"""

import ctypes
import hashlib
import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SETTING: Final = "BLINDGATE_KERNEL"
SOURCE: Final = Path(__file__).with_name("kernel.c")
LIBRARY: Final = Path(__file__).with_name("libkernel.so")
TILE: Final = 8
MOST_PRIME_BITS: Final = 56
_LEAST_DEGREE, _MOST_DEGREE = 16, 8192

Words = NDArray[np.uint64]


class Modulus(NamedTuple):
    """What the kernel needs to know of a prime.

    Attributes:
        prime: p.
        degree: N; p is 1 modulo 2N.
        plain_modulus: t < p; coefficients lie between -t and t, and stand for the residues of their classes nearest to 0.
        roots: `(degree, 2)`: the powers of SEAL's root in bit-reversed order, each with its quotient.
        constants: what `struct modulus` holds.
    """

    prime: int
    degree: int
    plain_modulus: int
    roots: Words
    constants: Words

    @classmethod
    def of(cls, prime: int, degree: int, plain_modulus: int) -> "Modulus":
        """Reckon it out. Raises `ValueError` on numbers that the kernel was not made for."""
        if degree not in {1 << bits for bits in range(4, 14)} or (prime - 1) % (2 * degree):
            msg = f"degree: got {degree} for prime {prime}, expected a power of two up to {_MOST_DEGREE} that divides (p - 1) / 2"
            raise ValueError(msg)
        if prime.bit_length() > MOST_PRIME_BITS or not 2 <= plain_modulus < prime:  # noqa: PLR2004 (the least modulus)
            msg = f"got prime {prime} and modulus {plain_modulus}, expected a prime of {MOST_PRIME_BITS} bits and a modulus below it"
            raise ValueError(msg)
        root, powers = least_root(prime, degree), [1]
        for _ in range(degree - 1):
            powers.append(powers[-1] * root % prime)
        factors = np.array([_factor(power, prime) for power in powers], dtype=np.uint64)
        constants = [prime, *_factor(1, prime), *_factor((1 << 64) % prime, prime), plain_modulus, (plain_modulus + 1) // 2]
        return cls(prime, degree, plain_modulus, factors[_reversed_bits(degree)], np.array(constants, dtype=np.uint64))


class Kernel:
    """The functions of a library, each behind its checks."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Take a library that was compiled from `SOURCE`."""
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._transform = library.blindgate_kernel_transform
        self._transform.argtypes = [pointer, pointer, size, size, pointer, pointer, size]
        self._transform.restype = None
        self._add_products = library.blindgate_kernel_add_products
        self._add_products.argtypes = [pointer, pointer, pointer, size, size, size, pointer, size]
        self._add_products.restype = None

    def transform(self, coefficients: NDArray[np.int64], modulus: Modulus, words: Words, start: int) -> None:
        """Transform polynomials into tiles, in SEAL's order.

        Args:
            coefficients: `(polynomials, degree)`, between -t and t.
            modulus: the prime's.
            words: `(degree / TILE, all polynomials, TILE)`, each of which gets a number below the prime.
            start: where in `words` the first of these polynomials belongs.

        Raises `ValueError` on arrays of another shape or type, or coefficients out of range.
        """
        count, degree = len(coefficients), modulus.degree
        _require(coefficients, np.int64, (count, degree))
        _require(words, np.uint64, (degree // TILE, words.shape[1], TILE), written=True)
        if not 0 <= start <= words.shape[1] - count:
            msg = f"start: got {start}, expected a place for {count} of {words.shape[1]} polynomials"
            raise ValueError(msg)
        if count and max(-int(coefficients.min()), int(coefficients.max())) >= modulus.plain_modulus:
            msg = "a coefficient is not below the plain modulus"
            raise ValueError(msg)
        to = words.ctypes.data + start * TILE * words.itemsize
        apart = words.shape[1] * TILE
        roots, constants = modulus.roots.ctypes.data, modulus.constants.ctypes.data
        self._transform(coefficients.ctypes.data, to, count, degree, roots, constants, apart)

    def add_products(self, matrix: Words, vector: Words, modulus: Modulus, prime: int, sums: Words) -> None:
        """Add Σ_j matrix[b, j] · vector[j] to the sums of every block b, for one prime.

        Args:
            matrix: `(degree / TILE, blocks, groups, TILE)`, this prime's.
            vector: `(groups, 2, primes, degree)`, ciphertexts in NTT form.
            modulus: the prime's.
            prime: its place among the primes of `vector` and `sums`.
            sums: `(blocks, 2, primes, degree)`, added to.

        Raises `ValueError` on arrays of another shape or type.
        """
        degree, primes = modulus.degree, vector.shape[2]
        _, blocks, groups, _ = matrix.shape
        _require(matrix, np.uint64, (degree // TILE, blocks, groups, TILE))
        _require(vector, np.uint64, (groups, 2, primes, degree))
        _require(sums, np.uint64, (blocks, 2, primes, degree), written=True)
        if not 0 <= prime < primes:
            msg = f"prime: got {prime} of {primes}"
            raise ValueError(msg)
        offset = prime * degree * sums.itemsize
        constants, apart = modulus.constants.ctypes.data, primes * degree
        given, to = vector.ctypes.data + offset, sums.ctypes.data + offset
        self._add_products(matrix.ctypes.data, given, to, blocks, groups, degree, constants, apart)


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
        warnings.warn(f"{path.name} was not compiled from {SOURCE.name}: SEAL computes in its place", RuntimeWarning, stacklevel=2)
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


def _reversed_bits(degree: int) -> NDArray[np.intp]:
    places = np.zeros(1, dtype=np.intp)
    while len(places) < degree:
        places = np.concatenate([2 * places, 2 * places + 1])
    return places


def _require(array: NDArray[Any], kind: type[np.generic], shape: tuple[int, ...], *, written: bool = False) -> None:
    if array.shape != shape or array.dtype != kind or not array.flags.c_contiguous or (written and not array.flags.writeable):
        msg = f"got an array {array.shape} of {array.dtype}, expected {shape} of {np.dtype(kind)}, contiguous"
        raise ValueError(msg)
