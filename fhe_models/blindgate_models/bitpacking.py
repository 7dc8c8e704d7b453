"""Numbers of a few bits each, side by side without a gap: how the words of a polynomial travel.

The words of a modulus of 54 bits, or what is left of one when low bits are dropped, fit no whole number of bytes. 64 numbers
of k bits are exactly k words of 64 bits. Every eighth number begins at a whole byte, so both ways run over eight places and do
all numbers of a place at once, as words at a stride of k bytes. Where k is a whole number of bytes, the same layout is those bytes
side by side.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_GROUP: Final = 64
_BEYOND: Final = 16  # bytes that the last words reach past the end


def packed_bytes(count: int, bits: int) -> int:
    """How many bytes `count` numbers of `bits` bits take: whole groups of 64 numbers."""
    return -(-count // _GROUP) * bits * 8


def pack(numbers: NDArray[np.uint64], bits: int) -> bytes:
    """Pack `numbers`, each below 2^bits, little-endian; the last group is filled up with zeros."""
    flat = numbers.ravel()
    padded = np.pad(flat, (0, -len(flat) % _GROUP))
    if bits % 8 == 0:
        return np.ascontiguousarray(padded.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : bits // 8]).tobytes()
    places = 8
    while places * bits < _GROUP:  # the words of one place, at this stride, must not overlap
        places *= 2
    stride = places * bits // 8
    count = len(padded) // places
    out = np.zeros(count * stride + _BEYOND, dtype=np.uint8)
    for place, column in enumerate(padded.reshape(count, places).T):
        byte, shift = divmod(place * bits, 8)
        words: NDArray[np.uint64] = np.ndarray(count, "<u8", out, byte, (stride,))
        words |= column << np.uint64(shift)
        if shift + bits > _GROUP:
            rest: NDArray[np.uint8] = np.ndarray(count, np.uint8, out, byte + 8, (stride,))
            rest |= (column >> np.uint64(_GROUP - shift)).astype(np.uint8)
    return out[: count * stride].tobytes()


def unpack(data: bytes | memoryview, count: int, bits: int) -> NDArray[np.uint64]:
    """`count` numbers from `packed_bytes(count, bits)` bytes. Raises `ValueError` on another length."""
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
