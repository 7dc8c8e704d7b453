"""BGV through sealapi: slots, products that keep their polynomials, and noise as it was computed."""

import numpy as np
import pytest

from blindgate_models.primes import is_prime, primes_of, slot_primes, smallest_prime
from blindgate_models.seal.bgv import Ring
from blindgate_models.seal.serial import Seeded, Words
from blindgate_models.security import NOISE_BOUND, SEED_BYTES
from blindgate_protocol.errors import PackageError
from phases import noise, phase

DEGREE, BITS, T = 8192, [56, 56, 48], 65537


@pytest.fixture(scope="module")
def ring() -> Ring:
    """A ring of three primes."""
    return Ring(DEGREE, BITS, T)


@pytest.fixture(scope="module")
def secret_words(ring: Ring) -> Words:
    """A secret key's words."""
    return ring.new_secret()


def test_primes_leave_the_message_alone(ring: Ring) -> None:
    """1 modulo 2N for the transform, 1 modulo t so that a switch multiplies the message by 1; none twice."""
    assert [prime.bit_length() for prime in ring.primes] == BITS
    assert len(set(ring.secret_primes)) == 4
    assert all(is_prime(prime) and prime % (2 * DEGREE) == prime % T == 1 for prime in ring.primes)
    assert ring.secret_primes[-1] != T


def test_a_product_of_five_has_six_polynomials_and_the_right_slots(ring: Ring, secret_words: Words) -> None:
    """Over all primes, and after a switch to two and to one."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, (5, DEGREE))
    secret = ring.secret(secret_words)
    sealed = [ring.expand(ring.encrypt(secret, each)) for each in bits]
    for kept in (3, 2, 1):
        product = ring.times_scalar(sealed[0], ring.scalar(-1234))
        for other in sealed[1 : 5 if kept > 1 else 3]:
            product = ring.times(product, other)
        words = ring.to_primes(product, kept)
        factors = bits[: 5 if kept > 1 else 3]
        assert words.shape == (len(factors) + 1, kept, DEGREE)
        assert (ring.decrypt(secret, words) == -1234 * factors.prod(axis=0) % T).all()


def test_fresh_phases_are_centred_and_within_their_limit(ring: Ring, secret_words: Words) -> None:
    """A mean of t/2 in every phase would add up in every product."""
    secret = ring.secret(secret_words)
    slots = np.random.default_rng(2).integers(0, 2, DEGREE)
    given = phase(ring, secret_words, ring.expand(ring.encrypt(secret, slots)))
    message = given % T
    assert len(set(message)) > DEGREE / 2  # the slots' polynomial has coefficients from all over
    in_units = (given / T).astype(np.float64)
    assert np.abs(in_units).max() <= NOISE_BOUND + 0.5
    assert abs(in_units.mean()) < 0.2
    assert 3.1 < in_units.std() < 3.4


def test_noise_of_a_product_is_the_product_of_phases(ring: Ring, secret_words: Words) -> None:
    """Nothing is added by a product: no key switching, no rounding."""
    secret = ring.secret(secret_words)
    one, other = (ring.expand(ring.encrypt(secret, np.full(DEGREE, value))) for value in (0, 1))
    left, right = (phase(ring, secret_words, each) for each in (one, other))
    got = phase(ring, secret_words, ring.times(one, other))
    expected = (
        sum(left[i] * (right[-i] if i == 0 else -right[DEGREE - i]) for i in range(1, DEGREE)) + left[0] * right[0]
    )
    assert got[0] == expected
    assert noise(ring, secret_words, ring.times(one, other)).std() > 0


def test_a_product_with_the_secret_moves_a_ciphertext_up(ring: Ring, secret_words: Words) -> None:
    """(0, 1) has the phase s, and is what a reply's polynomials are drawn anew with; noise grows by the secret's length."""
    secret = ring.secret(secret_words)
    words = np.zeros((2, 3, DEGREE), dtype=np.uint64)
    words[1, :, 0] = 1
    moved = ring.times(ring.from_coefficients(words), ring.expand(ring.encrypt(secret, None)))
    assert moved.size() == 3
    spread = noise(ring, secret_words, moved).std()
    assert 0.9 < spread / np.sqrt(NOISE_BOUND / 2 * DEGREE * 2 / 3) < 1.1


def test_t_times_words_is_exact(ring: Ring) -> None:
    """Words of 56 bits times t fit no machine word."""
    primes = np.array(ring.primes, dtype=object)[:, None]
    words = np.stack([np.arange(5) + prime - 5 for prime in ring.primes]).astype(np.uint64)
    assert (ring.times_plain_modulus(words).astype(object) == words.astype(object) * T % primes).all()


@pytest.mark.parametrize(
    ("degree", "bits", "plain_modulus", "says"),
    [
        pytest.param(8192, [56, 56, 56, 56], T, "224 bits at degree 8192, expected 1 to 218", id="below 128 bits"),
        pytest.param(8192, [56, 56], 65539, "expected a prime that is 1 modulo 16384", id="no slots"),
        pytest.param(8192, [56, 56], 49153, "expected a prime that is 1 modulo 16384", id="a composite number"),
        pytest.param(8192, [40, 40], 536903681, "too few primes of 40 bits", id="no primes"),
        pytest.param(2048, [20, 20], 12289, "too few primes of 20 bits", id="no short primes"),
    ],
)
def test_rings_that_do_not_exist_are_refused(degree: int, bits: list[int], plain_modulus: int, says: str) -> None:
    """By the field that is wrong, before SEAL sees anything."""
    with pytest.raises(PackageError, match=says):
        Ring(degree, bits, plain_modulus)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(np.full((3, DEGREE), 2**56, dtype=np.uint64), id="not below the primes"),
        pytest.param(np.full((3, DEGREE), 2**64 - 1, dtype=np.uint64), id="the largest word"),
        pytest.param(np.zeros((2, DEGREE), dtype=np.uint64), id="a prime short"),
        pytest.param(np.zeros(0, dtype=np.uint64), id="none"),
    ],
)
def test_words_that_are_no_polynomial_never_reach_native_code(ring: Ring, words: Words) -> None:
    """They are refused by count and size."""
    with pytest.raises(ValueError, match="word"):
        ring.expand(Seeded(bytes(SEED_BYTES), words))
    with pytest.raises(ValueError, match="word"):
        ring.secret(words)


def test_the_same_slots_never_encrypt_alike(ring: Ring, secret_words: Words) -> None:
    """Fresh seeds; also for slots of nothing but zeros, whose plaintext SEAL would not transform."""
    secret = ring.secret(secret_words)
    for slots in (None, np.zeros(DEGREE, dtype=np.int64), np.ones(DEGREE, dtype=np.int64)):
        first, second = (ring.encrypt(secret, slots) for _ in range(2))
        assert first.seed != second.seed
        assert (first.words == second.words).mean() < 0.01


def test_a_secret_does_not_show_itself(ring: Ring, secret_words: Words) -> None:
    """A log line that prints it prints nothing."""
    assert repr(ring.secret(secret_words)) == "Secret(<hidden>)"


def test_primes_are_found_in_their_class() -> None:
    """Against trial division, and at the sizes that rings take."""
    slow = [number for number in range(2, 2000) if all(number % each for each in range(2, int(number**0.5) + 1))]
    assert [number for number in range(2000) if is_prime(number)] == slow
    assert not is_prime(3215031751)  # a strong pseudoprime to 2, 3, 5 and 7
    assert smallest_prime(60_000, 16384) == 65537
    assert smallest_prime(65_537, 16384) == 65537
    assert smallest_prime(65_538, 16384) == 114689
    step = 2 * DEGREE * T
    (first, second), (short,) = primes_of(56, step, 2), primes_of(48, step, 1)
    assert slot_primes(DEGREE, (56, 48, 56), T) == (first, short, second)
