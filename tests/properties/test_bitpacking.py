"""Numbers of a few bits side by side: what goes in comes out, at every width and length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindgate_models.bitpacking import pack, packed_bytes, unpack


@settings(max_examples=200)
@given(count=st.integers(1, 300), bits=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(count: int, bits: int, seed: int) -> None:
    """And the length follows from count and width; the layout is little-endian, without a gap."""
    rng = np.random.default_rng(seed)
    numbers = (
        rng.integers(0, 2**bits, count, dtype=np.uint64, endpoint=False)
        if bits < 64
        else rng.integers(0, 2**64 - 1, count, dtype=np.uint64, endpoint=True)
    )
    data = pack(numbers, bits)
    assert len(data) == packed_bytes(count, bits)
    assert (unpack(data, count, bits) == numbers).all()
    assert (unpack(memoryview(data), count, bits) == numbers).all()
    assert int.from_bytes(data, "little") == sum(int(number) << bits * place for place, number in enumerate(numbers))


@pytest.mark.parametrize("wrong", [b"", bytes(8), bytes(129 * 8)])
def test_another_length_is_refused(wrong: bytes) -> None:
    """Got and expected stand in the message."""
    with pytest.raises(ValueError, match=f"length: got {len(wrong)} bytes, expected 1024"):
        unpack(wrong, 100, 64)
