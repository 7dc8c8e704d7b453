"""SEAL's corners: encoding by coefficients, exact words in and out, noise within its limit."""

import numpy as np
import pytest

from blindgate_models.seal.ckks import Ring
from blindgate_models.seal.serial import Seeded, Words
from blindgate_models.security import NOISE_BOUND, SEED_BYTES

DEGREE = 4096


@pytest.fixture(scope="module")
def ring() -> Ring:
    """A ring of the linear family's usual size."""
    return Ring(DEGREE, 48)


def test_the_prime_is_close_enough_to_its_power_of_two() -> None:
    """`Circuit.headroom` counts on q being within one part in 2^16 of 2^bits, below."""
    for bits in (40, 48, 56):
        assert 2.0**bits * (1 - 2.0**-16) < Ring(DEGREE, bits).prime < 2.0**bits


def test_coefficients_come_back_as_they_went_in(ring: Ring) -> None:
    """Encoding by the embedding is exact for integers, at both ends of the polynomial."""
    coefficients = np.random.default_rng(1).integers(-(2**30), 2**30, DEGREE).astype(np.float64)
    assert (np.rint(ring.decode(ring.encode(coefficients))) == coefficients).all()


def test_a_product_is_negacyclic_in_the_coefficients(ring: Ring) -> None:
    """X^4095 · X = -1: the encoder's order of slots is SEAL's, or the packing by rows would not work."""
    secret = ring.secret(ring.new_secret())
    last, shift = np.zeros(DEGREE), np.zeros(DEGREE)
    last[DEGREE - 1], shift[1] = 2.0**30, 1
    product = ring.times(ring.expand(ring.encrypt(secret, ring.encode(last))), ring.encode(shift))
    coefficients = ring.decode(ring.decrypt(secret, product))
    expected = np.zeros(DEGREE)
    expected[0] = -(2.0**30)
    assert np.abs(coefficients - expected).max() <= NOISE_BOUND


def test_fresh_noise_stays_within_its_hard_limit(ring: Ring) -> None:
    """The error bound of every model rests on this figure; noise that is too small would be no protection."""
    secret = ring.secret(ring.new_secret())
    zero = ring.encode(np.zeros(DEGREE))
    noise = np.stack([ring.decode(ring.decrypt(secret, ring.expand(ring.encrypt(secret, zero)))) for _ in range(40)])
    assert np.abs(np.rint(noise)).max() <= NOISE_BOUND
    assert 3.1 < noise.std() < 3.4


def test_words_that_leave_and_come_back_decrypt_alike(ring: Ring) -> None:
    """A ciphertext survives the way out as coefficients and back."""
    secret = ring.secret(ring.new_secret())
    message = np.arange(DEGREE) * 1000.0
    words = ring.to_words(ring.expand(ring.encrypt(secret, ring.encode(message))))
    assert words.shape == (2, DEGREE)
    assert np.abs(ring.decode(ring.decrypt(secret, ring.from_words(words))) - message).max() <= NOISE_BOUND + 1


def test_no_seed_is_drawn_twice(ring: Ring) -> None:
    """Two ciphertexts under one seed would give away the difference of their rows."""
    secret = ring.secret(ring.new_secret())
    plaintext = ring.encode(np.zeros(DEGREE))
    seeds = {ring.encrypt(secret, plaintext).seed for _ in range(64)}
    assert len(seeds) == 64
    assert all(len(seed) == SEED_BYTES for seed in seeds)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(np.full(DEGREE, 2**48, dtype=np.uint64), id="not below the prime"),
        pytest.param(np.full(DEGREE, 2**64 - 1, dtype=np.uint64), id="the largest word"),
        pytest.param(np.zeros(DEGREE - 1, dtype=np.uint64), id="one word short"),
        pytest.param(np.zeros(2 * DEGREE, dtype=np.uint64), id="a second polynomial"),
        pytest.param(np.zeros(0, dtype=np.uint64), id="none"),
    ],
)
def test_words_that_are_no_polynomial_never_reach_native_code(ring: Ring, words: Words) -> None:
    """They are refused by count and size before SEAL sees a byte."""
    with pytest.raises(ValueError, match="word"):
        ring.expand(Seeded(bytes(SEED_BYTES), words))
    with pytest.raises(ValueError, match="word"):
        ring.secret(words)


def test_a_secret_does_not_show_itself(ring: Ring) -> None:
    """A log line that prints it prints nothing."""
    assert repr(ring.secret(ring.new_secret())) == "Secret(<hidden>)"
