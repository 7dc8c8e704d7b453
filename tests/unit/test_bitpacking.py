"""Numbers of a few bits, side by side: what goes in comes out, at one length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_models.bitpacking import pack, packed_bytes, unpack


@settings(max_examples=200)
@given(bits=st.integers(1, 63), count=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_numbers_come_back_whatever_their_bits(bits: int, count: int, seed: int) -> None:
    """Also across the borders of words, and the largest and smallest of them."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 1 << bits, count, dtype=np.uint64)
    numbers[0], numbers[-1] = 0, (1 << bits) - 1
    packed = pack(numbers, bits)
    assert len(packed) == packed_bytes(count, bits)
    np.testing.assert_array_equal(unpack(packed, count, bits), numbers)


def test_the_layout_is_little_endian_without_a_gap() -> None:
    """As docs tell other implementations: number i is bits i·k to i·k + k - 1 of one long integer."""
    numbers = np.random.default_rng(3).integers(0, 1 << 13, 64, dtype=np.uint64)
    whole = sum(int(number) << 13 * place for place, number in enumerate(numbers))
    assert pack(numbers, 13) == whole.to_bytes(64 * 13 // 8, "little")


@pytest.mark.parametrize("change", [-8, -1, 1, 8])
def test_another_length_is_refused(change: int) -> None:
    """Got and expected stand in the message."""
    data = bytes(packed_bytes(100, 11) + change)
    with pytest.raises(ValueError, match=rf"got {len(data)} bytes, expected {packed_bytes(100, 11)}"):
        unpack(data, 100, 11)


def test_no_number_spills_into_its_neighbours() -> None:
    """Each bit of each number moves one bit of the packed bytes."""
    for bits in (1, 13, 37, 54, 63):
        for place in (0, 1, 62, 63):
            for bit in {0, bits - 1}:
                numbers = np.zeros(64, dtype=np.uint64)
                numbers[place] = 1 << bit
                assert int.from_bytes(pack(numbers, bits), "little") == 1 << (place * bits + bit)
