"""Numbers of a few bits each, side by side without a gap: how the words of a polynomial travel.

The words of a modulus of 54 bits, or what is left of one when low bits are dropped, fit no whole number of bytes. 64 numbers
of k bits are exactly k words of 64 bits, so `pack` runs over the 64 places and does all groups at once. Where k is a whole
number of bytes, the same layout is those bytes side by side.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_GROUP: Final = 64
_BEYOND: Final = 16  # bytes that the last words read past the end


def packed_bytes(count: int, bits: int) -> int:
    """How many bytes `count` numbers of `bits` bits take: whole groups of 64 numbers."""
    return -(-count // _GROUP) * bits * 8


def pack(numbers: NDArray[np.uint64], bits: int) -> bytes:
    """Pack `numbers`, each below 2^bits, little-endian; the last group is filled up with zeros."""
    flat = numbers.ravel()
    if bits % 8 == 0:
        padded = np.pad(flat, (0, -len(flat) % _GROUP)).astype("<u8")
        return np.ascontiguousarray(padded.view(np.uint8).reshape(-1, 8)[:, : bits // 8]).tobytes()
    groups = np.pad(flat, (0, -len(flat) % _GROUP)).reshape(-1, _GROUP).T.copy()
    out = np.zeros((bits, groups.shape[1]), dtype=np.uint64)
    for place in range(_GROUP):
        word, shift = divmod(place * bits, _GROUP)
        out[word] |= groups[place] << np.uint64(shift)
        if shift + bits > _GROUP:
            out[word + 1] |= groups[place] >> np.uint64(_GROUP - shift)
    return out.T.astype("<u8").tobytes()


def unpack(data: bytes | memoryview, count: int, bits: int) -> NDArray[np.uint64]:
    """`count` numbers from `packed_bytes(count, bits)` bytes. Raises `ValueError` on another length.

    Every eighth number begins at a whole byte, so the numbers at each of 8 places are read as words at a stride of `bits` bytes.
    """
    if len(data) != packed_bytes(count, bits):
        msg = f"length: got {len(data)} bytes, expected {packed_bytes(count, bits)}"
        raise ValueError(msg)
    rows = len(data) // bits
    padded = bytes(data) + bytes(_BEYOND)
    mask = np.uint64((1 << bits) - 1)
    numbers = np.empty((rows, 8), dtype=np.uint64)
    for place in range(8):
        byte, shift = divmod(place * bits, 8)
        number = np.ndarray(rows, "<u8", padded, byte, (bits,)) >> np.uint64(shift)
        if shift + bits > _GROUP:
            number |= np.ndarray(rows, np.uint8, padded, byte + 8, (bits,)).astype(np.uint64) << np.uint64(
                _GROUP - shift
            )
        numbers[:, place] = number & mask
    return numbers.ravel()[:count]


def pack_rows(words: NDArray[np.uint64], bits: Sequence[int]) -> bytes:
    """Words `(primes, degree)`, each row in its prime's number of bits."""
    return b"".join(pack(row, length) for row, length in zip(words, bits, strict=True))


def unpack_rows(data: memoryview, degree: int, bits: Sequence[int]) -> NDArray[np.uint64]:
    """What `pack_rows` packed, `(primes, degree)`: words that may still not be below their primes."""
    rows, position = [], 0
    for length in bits:
        size = packed_bytes(degree, length)
        rows.append(unpack(data[position : position + size], degree, length))
        position += size
    return np.stack(rows)
