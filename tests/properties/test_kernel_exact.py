"""The kernel in C against SEAL and against whole numbers: the same words, for any matrix, noise and query, down to the last bit."""

import hashlib
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blindgate_models.native.kernel import TILE, Kernel, Moduli, kernel
from blindgate_models.primes import primes_of
from blindgate_models.product.kernel_arithmetic import KernelArithmetic
from blindgate_models.product.seal_arithmetic import SealArithmetic
from blindgate_models.product.server import ProductServer
from blindgate_models.product.spec import Privacy
from blindgate_models.randomness import Source
from blindgate_models.seal import serial
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Words
from campaigns import of
from products import product

RINGS = [
    (2048, (54,), 1 << 21),
    (4096, (38, 54), 65521),
    (4096, (50, 54), 2_110_742),
    (8192, (54, 55, 55), (1 << 40) - 87),
]
SMALL = primes_of(56, 32, 3)  # for polynomials of 16 coefficients


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Kernel:
    """The kernel."""
    found = kernel()
    if found is None:
        pytest.skip("no kernel was compiled here")
    return found


def stream(seed: int) -> Source:
    """Bytes that are the same each time."""
    calls = count()
    return lambda size: hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size)


def seal_words(ring: Ring, polynomials: NDArray[np.int64]) -> Words:
    """The transforms of polynomials modulo each prime, `(polynomials, primes, degree)`, by SEAL."""
    found = []
    for row in polynomials:
        words = np.ones((2, len(ring.primes), ring.degree), dtype=np.uint64)
        words[1] = [row % prime for prime in ring.primes]
        ciphertext = ring.from_words(words)
        ring.evaluator.transform_to_ntt_inplace(ciphertext)
        found.append(serial.ciphertext_words(ciphertext, len(ring.primes), ring.degree)[1])
    return np.stack(found)


@pytest.mark.parametrize(("degree", "bits", "modulus"), RINGS)
def test_transforms_are_seals(degree: int, bits: tuple[int, ...], modulus: int, compiled: Kernel) -> None:
    """SEAL's root, SEAL's order; every coefficient is taken for the residue nearest to 0, the largest and smallest too."""
    ring = Ring(degree, bits, modulus)
    moduli = Moduli.of(ring.primes, degree, modulus)
    rng = np.random.default_rng(1)
    half = (modulus + 1) // 2
    rows = rng.integers(1 - modulus, modulus, (6, degree))
    rows[1], rows[2], rows[3, ::2] = half, half - 1, modulus - 1
    rows[4], rows[5, 1:] = 1 - modulus, 0
    words = np.full((len(bits), moduli.tiles, 9, TILE), 7, dtype=np.uint64)
    compiled.transform(rows, moduli, words, 2)
    nearest = rows % modulus
    nearest -= modulus * (nearest >= half)
    got = words.transpose(2, 0, 1, 3).reshape(9, len(bits), degree)
    np.testing.assert_array_equal(got[2:8], seal_words(ring, nearest))
    assert (got[[0, 1, 8]] == 7).all()


@settings(max_examples=60)
@given(
    groups=st.sampled_from([1, 2, 127, 128, 129, 300]),
    blocks=st.integers(1, 3),
    primes=st.integers(1, 3),
    extreme=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_sums_are_exact(groups: int, blocks: int, primes: int, extreme: bool, seed: int) -> None:
    """Against whole numbers, for primes of as many bits as the kernel takes, and words of their largest size."""
    compiled = kernel()
    assert compiled is not None
    moduli = Moduli.of(SMALL[:primes], 16, 257)
    rng = np.random.default_rng(seed)

    def words(*shape: int) -> Words:
        drawn = [
            np.full(shape, p - 1, np.uint64) if extreme else rng.integers(0, p, shape, np.uint64) for p in moduli.primes
        ]
        return np.stack(drawn)

    matrix = words(2, blocks, groups, TILE)
    vector, sums = (np.ascontiguousarray(words(size, 2, 16).transpose(1, 2, 0, 3)) for size in (groups, blocks))
    plain = matrix.transpose(2, 3, 0, 1, 4).reshape(blocks, groups, 1, primes, 16).astype(object)
    modulus = np.array(moduli.primes, dtype=object)[:, None]
    expected = (sums.astype(object) + (plain * vector.astype(object)).sum(axis=1)) % modulus
    compiled.add_products(matrix, vector, moduli, sums)
    assert (sums == expected).all()


@pytest.mark.parametrize(("degree", "bits", "modulus"), RINGS)
@pytest.mark.parametrize("largest", [False, True])
def test_what_follows_the_sums_is_seals(
    degree: int, bits: tuple[int, ...], modulus: int, largest: bool, compiled: Kernel
) -> None:
    """Inverse transform, noise, and the switch with its rounding, of random words and of the largest ones."""
    ring = Ring(degree, bits, modulus)
    rng = np.random.default_rng(2)
    draws = [[rng.integers(0, p, (3, 2, degree), np.uint64) for p in ring.primes] for _ in range(2)]
    sums, added = (np.stack(rows, axis=2) for rows in draws)
    if largest:
        sums[:] = np.array(ring.primes, dtype=np.uint64)[:, None] - np.uint64(1)
    expected = []
    for words, more in zip(sums, added, strict=True):
        total = serial.load_ciphertext(ring._data, words, ntt=True)
        ring.evaluator.transform_from_ntt_inplace(total)
        ring.evaluator.add_inplace(total, ring.from_words(more))
        expected.append(ring.to_last_prime(total))
    got = compiled.finish(sums, added, Moduli.of(ring.primes, degree, modulus))
    np.testing.assert_array_equal(got, np.stack(expected))


@settings(max_examples=of(25, slice_of=8))
@given(
    shape=st.tuples(st.sampled_from([1, 7, 40, 700, 4097]), st.sampled_from([1, 5, 130, 900])),
    plain_bits=st.sampled_from([2, 16, 20, 28]),
    privacy=st.sampled_from(["model_private", "model_public"]),
    empty=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_replies_are_the_same_bytes(
    shape: tuple[int, int], plain_bits: int, privacy: Privacy, empty: bool, seed: int
) -> None:
    """Both halves draw the same masks and answer two queries, by the kernel and by SEAL; rows of W are nothing but zeros."""
    compiled = kernel()
    assert compiled is not None
    it = product(*shape, plain_bits=plain_bits, privacy=privacy, seed=seed)
    it.matrix[:: 1 if empty else 2] = 0
    rows = np.random.default_rng(seed).integers(0, 2, (2, shape[0]))
    blob = it.client.encrypt(it.secret, rows)
    replies = []
    for by_kernel in (True, False):
        server = ProductServer.of(it.shape, stream(seed))
        server._arithmetic = KernelArithmetic(server._ring, compiled) if by_kernel else SealArithmetic(server._ring)
        replies.append(it._replace(server=server).answer(blob))
    assert replies[0] == replies[1]
    np.testing.assert_array_equal(it.client.decrypt(it.secret, replies[0], 2), it.expected(rows))
