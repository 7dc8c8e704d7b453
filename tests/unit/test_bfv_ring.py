"""BFV by coefficients: exact numbers, one kind of key, and nothing that would be encrypted under a larger modulus."""

import numpy as np
import pytest

from blindgate_models.seal.bfv import Ring
from blindgate_models.security import MODULUS_BITS_AT_128
from blindgate_protocol.errors import PackageError

RINGS = [
    pytest.param(2048, [54], id="one prime"),
    pytest.param(4096, [38, 54], id="two primes"),
    pytest.param(8192, [54, 55, 55], id="three primes"),
]


@pytest.mark.parametrize(("degree", "bits"), RINGS)
def test_what_was_encrypted_is_what_is_decrypted(degree: int, bits: list[int]) -> None:
    """Every coefficient, exactly, after a product with 1 and the switch to the last prime."""
    ring = Ring(degree, bits, 65521)
    secret = ring.secret(ring.new_secret())
    numbers = np.random.default_rng(1).integers(0, 65521, degree)
    product = ring.times(ring.expand(ring.encrypt(secret, numbers)), ring.multipliers(np.array([[1]]))[0])
    ring.evaluator.transform_from_ntt_inplace(product)
    np.testing.assert_array_equal(ring.decrypt(secret, ring.to_last_prime(product)), numbers)


@pytest.mark.parametrize(("degree", "bits"), RINGS)
def test_a_product_is_the_negacyclic_one(degree: int, bits: list[int]) -> None:
    """X^(N-1) times X is -1, modulo t."""
    ring = Ring(degree, bits, 257)
    secret = ring.secret(ring.new_secret())
    last, first = np.zeros(degree, dtype=np.int64), np.array([0, 1])
    last[-1] = 5
    product = ring.times(ring.expand(ring.encrypt(secret, last)), ring.multipliers(first[None])[0])
    ring.evaluator.transform_from_ntt_inplace(product)
    expected = np.zeros(degree, dtype=np.int64)
    expected[0] = 257 - 5
    np.testing.assert_array_equal(ring.decrypt(secret, ring.to_last_prime(product)), expected)


def test_a_polynomial_in_clear_decrypts_like_any_other() -> None:
    """Whatever the modulus, no number is rounded away."""
    ring = Ring(2048, [54], (1 << 36) - 5)
    numbers = np.random.default_rng(1).integers(0, (1 << 36) - 5, 2048)
    words = ring.in_clear(next(ring.plaintexts(numbers[None])))
    np.testing.assert_array_equal(ring.decrypt(ring.secret(ring.new_secret()), words), numbers)


def test_there_is_no_way_to_make_a_key_at_the_level_of_keys() -> None:
    """Public, relinearisation and Galois keys would be encrypted modulo the special prime too, past the 128-bit table."""
    ring = Ring(4096, [50, 54], 65521)
    names = {name.lower() for owner in (ring, ring.secret(ring.new_secret())) for name in dir(owner)}
    assert not [name for name in names if any(word in name for word in ("galois", "relin", "public"))]
    assert len(ring.secret_primes) == 3
    assert sum(prime.bit_length() for prime in ring.secret_primes) > MODULUS_BITS_AT_128[4096]
    fresh = ring.encrypt(ring.secret(ring.new_secret()), np.array([1]))
    assert fresh.words.shape == (2, 4096)
    assert sum(prime.bit_length() for prime in ring.primes) <= MODULUS_BITS_AT_128[4096]


@pytest.mark.parametrize(
    ("degree", "bits"),
    [
        pytest.param(2048, [55], id="a bit too many"),
        pytest.param(4096, [55, 55], id="two primes too many"),
        pytest.param(8192, [55] * 4, id="four primes"),
        pytest.param(4096, [], id="none"),
        pytest.param(3000, [30], id="no such degree"),
    ],
)
def test_a_ring_below_128_bits_is_refused(degree: int, bits: list[int]) -> None:
    """There is no switch for it."""
    with pytest.raises(PackageError, match="parameters"):
        Ring(degree, bits, 257)


def test_words_past_a_prime_are_refused_before_seal_sees_them() -> None:
    """A secret, a ciphertext, a result: each is held against its own prime."""
    ring = Ring(4096, [38, 54], 257)
    words = ring.new_secret()
    secret = ring.secret(words)
    seeded = ring.encrypt(secret, np.array([1]))
    for row in range(2):
        past = seeded.words.copy()
        past[row, 17] = ring.primes[row]
        with pytest.raises(ValueError, match="below the prime"):
            ring.expand(seeded._replace(words=past))
    key = words.copy()
    key[2, 0] = ring.secret_primes[2]
    with pytest.raises(ValueError, match="below the prime"):
        ring.secret(key)
    with pytest.raises(ValueError, match="below the prime"):
        ring.decrypt(secret, np.full((2, 4096), ring.primes[0], dtype=np.uint64))
    with pytest.raises(ValueError, match="plain modulus"):
        list(ring.plaintexts(np.array([[257]])))
    with pytest.raises(ValueError, match="plain modulus"):
        list(ring.plaintexts(np.array([[-1]])))


def test_a_secret_key_shows_nothing() -> None:
    """Whatever is logged, the key is not in it."""
    ring = Ring(2048, [54], 257)
    assert repr(ring.secret(ring.new_secret())) == "Secret(<hidden>)"


def test_two_encryptions_of_a_number_share_nothing() -> None:
    """Neither the seed nor the words: a node cannot see that a row came twice."""
    ring = Ring(2048, [54], 257)
    secret = ring.secret(ring.new_secret())
    first, second = (ring.encrypt(secret, np.array([1])) for _ in range(2))
    assert first.seed != second.seed
    assert (first.words == second.words).mean() < 0.01
