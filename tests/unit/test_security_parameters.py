"""The table of the Homomorphic Encryption Standard, and its check."""

import pytest
from tenseal import sealapi

from blindgate_models.seal.ckks import Ring
from blindgate_models.security import MODULUS_BITS_AT_128, require_128_bits
from blindgate_protocol.errors import PackageError


@pytest.mark.parametrize("degree", MODULUS_BITS_AT_128)
def test_the_table_says_what_seal_says(degree: int) -> None:
    """A figure mistyped here would let weak parameters pass; SEAL carries the standard's table too."""
    assert MODULUS_BITS_AT_128[degree] == sealapi.CoeffModulus.MaxBitCount(degree, sealapi.SEC_LEVEL_TYPE.TC128)


@pytest.mark.parametrize(
    ("degree", "primes"),
    [
        pytest.param(4096, [109], id="the most that the standard allows"),
        pytest.param(4096, [36, 36, 37], id="the same in three primes"),
        pytest.param(2048, [54], id="a smaller ring"),
    ],
)
def test_parameters_at_the_limit_are_accepted(degree: int, primes: list[int]) -> None:
    """The limit itself is 128-bit secure and not refused."""
    require_128_bits(degree, primes)


@pytest.mark.parametrize(
    ("degree", "primes"),
    [
        pytest.param(4096, [110], id="one bit too many"),
        pytest.param(4096, [60, 50], id="too many together"),
        pytest.param(2048, [55], id="too many for a smaller ring"),
        pytest.param(512, [20], id="a ring that the standard has no figure for"),
        pytest.param(4095, [40], id="not a power of two"),
        pytest.param(4096, [], id="no modulus"),
        pytest.param(4096, [120, -20], id="a negative length that hides the rest"),
    ],
)
def test_weaker_parameters_are_refused(degree: int, primes: list[int]) -> None:
    """Nobody encrypts or computes under 128 bits."""
    with pytest.raises(PackageError, match="parameters"):
        require_128_bits(degree, primes)


def test_a_ring_below_128_bits_cannot_be_made() -> None:
    """The check stands where the ring is built, so no family can forget it."""
    with pytest.raises(PackageError, match="128-bit"):
        Ring(1024, 40)
