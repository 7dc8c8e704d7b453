"""Numbers of a few bits each, side by side without a gap: how the words of a polynomial travel.

The words of a modulus of 54 bits, or what is left of one when low bits are dropped, fit no whole number of bytes. 64 numbers
of k bits are exactly k words of 64 bits, so both directions run over the 64 places and do all groups at once. Where k is a whole
number of bytes, the same layout is those bytes side by side.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_GROUP: Final = 64


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
    """`count` numbers from `packed_bytes(count, bits)` bytes. Raises `ValueError` on another length."""
    if len(data) != packed_bytes(count, bits):
        msg = f"length: got {len(data)} bytes, expected {packed_bytes(count, bits)}"
        raise ValueError(msg)
    if bits % 8 == 0:
        numbers = np.zeros((count, 8), dtype=np.uint8)
        numbers[:, : bits // 8] = np.frombuffer(data, np.uint8, count * bits // 8).reshape(count, -1)
        return numbers.view("<u8").ravel().astype(np.uint64, copy=False)
    given = np.frombuffer(data, dtype="<u8").reshape(-1, bits).T.astype(np.uint64)
    groups = np.empty((_GROUP, given.shape[1]), dtype=np.uint64)
    mask = np.uint64((1 << bits) - 1)
    for place in range(_GROUP):
        word, shift = divmod(place * bits, _GROUP)
        number = given[word] >> np.uint64(shift)
        if shift + bits > _GROUP:
            number = number | given[word + 1] << np.uint64(_GROUP - shift)
        groups[place] = number & mask
    return np.ascontiguousarray(groups.T).ravel()[:count]
