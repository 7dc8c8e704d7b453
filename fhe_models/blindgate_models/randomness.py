"""Random numbers that hide something: drawn from the operating system, without bias, as arrays.

Masks, permutations and noise decide what an asker learns of a model, so none comes from numpy's generators, whose whole
future follows from a little of their past. A `Source` gives bytes; by default it is the operating system's, which needs no state
here and so survives a fork. Tests pass a seeded one.
"""

import os
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Source: TypeAlias = Callable[[int], bytes]
"""Gives that many random bytes."""

SYSTEM: Final[Source] = os.urandom

_TERNARY_ROUNDS: Final = 5  # 3^5 = 243 of a byte's 256 values


def below(bound: int, shape: int | tuple[int, ...], source: Source = SYSTEM) -> NDArray[np.int64]:
    """Numbers from 0 to `bound` - 1, uniform: candidates of as few bits as hold them, drawn again where they are too large."""
    if not 1 <= bound <= 1 << 62:
        msg = f"bound: got {bound}, expected 1 to 2^62"
        raise ValueError(msg)
    size = int(np.prod(shape))
    bits = (bound - 1).bit_length()
    kind = np.dtype("<u4") if bits <= 32 else np.dtype("<u8")  # noqa: PLR2004
    mask = (1 << bits) - 1
    numbers = np.empty(size, dtype=np.int64)
    filled = 0
    while filled < size:
        wanted = (size - filled) * (1 << bits) // bound + 16
        drawn = np.frombuffer(source(wanted * kind.itemsize), dtype=kind).astype(np.int64) & mask
        fitting = drawn[drawn < bound][: size - filled]
        numbers[filled : filled + len(fitting)] = fitting
        filled += len(fitting)
    return numbers.reshape(shape)


def permutation(size: int, source: Source = SYSTEM) -> NDArray[np.intp]:
    """An order of `size` things, every one as likely up to a chance of size²/2^63 that two of the numbers sorted are equal."""
    return np.argsort(np.frombuffer(source(8 * size), dtype="<u8"), kind="stable")


def ternary(size: int, source: Source = SYSTEM) -> NDArray[np.int64]:
    """Numbers of -1, 0 and 1, uniform: five from every byte below 243."""
    digits = np.empty(0, dtype=np.int64)
    while len(digits) < size:
        drawn = np.frombuffer(source((size - len(digits)) // 4 + 16), dtype=np.uint8)
        fitting = drawn[drawn < 3**_TERNARY_ROUNDS].astype(np.int64)
        fives = fitting[:, None] // 3 ** np.arange(_TERNARY_ROUNDS) % 3
        digits = np.concatenate([digits, fives.ravel()])
    return digits[:size] - 1


def centred_binomial(size: int, source: Source = SYSTEM) -> NDArray[np.int64]:
    """Noise as SEAL draws it: the difference of the Hamming weights of two 21-bit strings, standard deviation 3.24.

    SEAL 4.1, `util/rlwe.cpp`, `sample_poly_cbd`.
    """
    first, second, rest = np.frombuffer(source(6 * size), dtype="<u2").reshape(3, size)  # 16 bits of each, 5 of both
    return np.asarray(
        _ONES[first].astype(np.int64) + _ONES[rest & 0x1F] - _ONES[second] - _ONES[rest >> 5 & 0x1F], dtype=np.int64
    )


_ONES: Final = np.array([number.bit_count() for number in range(1 << 16)], dtype=np.int8)
