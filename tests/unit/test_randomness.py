"""Random numbers that hide something: their distributions, and the noise that drowns a reply."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from blindgate_models import randomness
from blindgate_models.flooding import FISHER_WIDTH, TERMS, distinguishing_bits, flood


def seeded(seed: int) -> Callable[[int], bytes]:
    """A source that gives other bytes at every call, and the same in every run."""
    state = hashlib.shake_256(seed.to_bytes(8, "little"))
    calls = [0]

    def source(size: int) -> bytes:
        calls[0] += 1
        each = state.copy()
        each.update(calls[0].to_bytes(8, "little"))
        return each.digest(size)

    return source


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 100, 255, 256, 257, 1000])
def test_numbers_below_a_bound_are_uniform(bound: int) -> None:
    """Chi-square over every value: a bias of a reduction modulo the bound would show."""
    numbers = randomness.below(bound, 200 * bound, seeded(bound))
    assert numbers.min() >= 0
    assert numbers.max() < bound
    counts = np.bincount(numbers, minlength=bound)
    assert bound == 1 or stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("bound", [3 << 30, (1 << 32) + 1, 3 << 60, 1 << 62])
def test_large_bounds_are_uniform_too(bound: int) -> None:
    """Kolmogorov and Smirnov: candidates of 32 and of 64 bits. 3·2^k is where a reduction would favour the first third."""
    numbers = randomness.below(bound, 50_000, seeded(7))
    assert numbers.min() >= 0
    assert numbers.max() < bound
    assert stats.kstest(numbers / bound, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("bound", [0, -1, (1 << 62) + 1])
def test_a_bound_that_is_none_is_refused(bound: int) -> None:
    """It would never end, or overflow."""
    with pytest.raises(ValueError, match="bound"):
        randomness.below(bound, 1)


def test_every_order_is_as_likely() -> None:
    """All 24 orders of four things."""
    source = seeded(1)
    orders = Counter(tuple(randomness.permutation(4, source).tolist()) for _ in range(4800))
    assert len(orders) == math.factorial(4)
    assert stats.chisquare(list(orders.values())).pvalue > 1e-4


def test_ternary_numbers_are_uniform_and_independent() -> None:
    """Single numbers and neighbours, since five come from one byte."""
    numbers = randomness.ternary(300_000, seeded(2))
    assert set(numbers.tolist()) == {-1, 0, 1}
    assert stats.chisquare(np.bincount(numbers + 1)).pvalue > 1e-4
    pairs = (numbers[:-1] + 1) * 3 + numbers[1:] + 1
    assert stats.chisquare(np.bincount(pairs[::2])).pvalue > 1e-4


def test_noise_has_seals_distribution() -> None:
    """The difference of two binomials over 21 coins: its bound, its deviation, its shape."""
    numbers = randomness.centred_binomial(300_000, seeded(3))
    assert np.abs(numbers).max() <= 21
    assert abs(numbers.std() - math.sqrt(10.5)) < 0.02
    shifted = np.bincount(numbers + 21, minlength=43)
    expected = stats.binom.pmf(np.arange(43), 42, 0.5) * len(numbers)
    common = expected > 20
    assert (
        stats.chisquare(shifted[common], expected[common] * shifted[common].sum() / expected[common].sum()).pvalue
        > 1e-4
    )


def test_the_fisher_width_is_that_of_four_uniforms() -> None:
    """1/√I of a sum of four uniforms on -1 to 1, by numerical integration, and rounded down: the claim of 2^-40 rests on it."""
    x = np.linspace(-4, 4, 800_001)[1:-1]
    # Irwin and Hall: the density of a sum of four uniforms on -1 to 1 is a cubic spline.
    density = sum((-1) ** k * math.comb(4, k) * np.maximum(0, x + 4 - 2 * k) ** 3 for k in range(5)) / (6 * 2**4)
    assert abs(integrate.trapezoid(density, x) - 1) < 1e-6
    slope = np.gradient(density, x)
    inner = density > 1e-12
    information = integrate.trapezoid(slope[inner] ** 2 / density[inner], x[inner])
    assert FISHER_WIDTH <= 1 / math.sqrt(information) < FISHER_WIDTH + 0.01


def test_the_advantage_is_the_bound_that_is_cited() -> None:
    """x·√(n·I)/2, in bits; a query more, a larger shift, or a smaller flood only ever costs."""
    got = distinguishing_bits(1000.0, 60, 1e8)
    assert got == pytest.approx(-math.log2(1000 * math.sqrt(1e8) / (2 * FISHER_WIDTH * 2.0**60)))
    assert distinguishing_bits(1000.0, 61, 1e8) == pytest.approx(got + 1)
    assert distinguishing_bits(2000.0, 60, 1e8) == pytest.approx(got - 1)
    assert distinguishing_bits(1000.0, 60, 4e8) == pytest.approx(got - 1)
    assert distinguishing_bits(0.0, 60, 1e8) == math.inf


PRIMES = (65537, (1 << 38) - 45, (1 << 54) - 33, (1 << 55) - 55)


@settings(max_examples=40)
@given(bits=st.integers(0, 160), seed=st.integers(0, 2**32))
def test_the_residues_of_a_flood_are_of_one_number_within_its_maximum(bits: int, seed: int) -> None:
    """Four numbers from -2^b to 2^b - 1, the same for each prime: recomputed from the same bytes."""
    residues = flood(bits, 20, PRIMES, seeded(seed))
    rows = -(-(bits + 1) // 8)
    digits = np.frombuffer(seeded(seed)(rows * TERMS * 20), dtype=np.uint8).reshape(rows, TERMS, 20)
    for column in range(20):
        total = 0
        for term in range(TERMS):
            given = int.from_bytes(digits[:, term, column].tobytes(), "big") % (1 << (bits + 1))
            total += given - (1 << bits)
        assert -TERMS << bits <= total <= TERMS * ((1 << bits) - 1)
        assert [int(residues[row, column]) for row in range(len(PRIMES))] == [total % prime for prime in PRIMES]


def test_a_flood_is_as_wide_as_it_claims() -> None:
    """Centred, of deviation 2^b·√(4/3), and near its hard maximum where four uniforms would be: no bit of one is stuck."""
    prime = (1 << 55) - 55
    words = flood(40, 200_000, [prime], seeded(5))[0].astype(np.int64)
    numbers = np.where(words > prime // 2, words - prime, words) / 2.0**40
    assert (
        stats.kstest(
            numbers,
            lambda x: (
                sum((-1) ** k * math.comb(4, k) * np.maximum(0, x + 4 - 2 * k) ** 4 for k in range(5)) / (24 * 2**4)
            ),
        ).pvalue
        > 1e-4
    )


def test_a_prime_that_would_overflow_is_refused() -> None:
    """Residues are shifted by a byte in 64 bits."""
    with pytest.raises(ValueError, match="57 bits, expected at most 56"):
        flood(10, 1, [(1 << 57) - 13])


def test_the_systems_source_gives_other_numbers_every_time() -> None:
    """No state is kept here that a fork could double."""
    assert (randomness.below(1 << 60, 50) != randomness.below(1 << 60, 50)).all()
    assert (flood(50, 50, [(1 << 54) - 33]) != flood(50, 50, [(1 << 54) - 33])).all()
