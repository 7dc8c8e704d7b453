"""BFV by coefficients: what is encrypted comes back exact, with fresh noise of the size that bounds count on."""

import zlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from blindgate_models.randomness import centred_binomial
from blindgate_models.seal import serial
from blindgate_models.seal.bfv import Ring
from blindgate_models.seal.serial import Secret, Seeded
from blindgate_protocol.errors import PackageError

RINGS = [
    pytest.param((2048, (54,), 1 << 21), id="one prime"),
    pytest.param((4096, (50, 54), 2_110_742), id="two primes"),
    pytest.param((8192, (54, 55, 55), (1 << 40) - 87), id="three primes and the largest t"),
]


class Made(NamedTuple):
    """A ring with a key and a message."""

    ring: Ring
    secret: Secret
    key: serial.Words
    message: NDArray[np.int64]


@pytest.fixture(params=RINGS)
def made(request: pytest.FixtureRequest) -> Made:
    """A ring of each kind."""
    degree, bits, modulus = request.param
    ring = Ring(degree, bits, modulus)
    message = np.random.default_rng(0).integers(0, modulus, degree)
    message[:3] = 0, modulus - 1, modulus // 2
    key = ring.new_secret()
    return Made(ring, ring.secret(key), key, message)


def opened(made: Made, seeded: Seeded) -> NDArray[np.int64]:
    """What a seeded ciphertext decrypts to."""
    one = made.ring.multipliers(np.array([[1]]))[0]
    product = made.ring.times(made.ring.expand(seeded), one)
    made.ring.evaluator.transform_from_ntt_inplace(product)
    return made.ring.decrypt(made.secret, made.ring.to_last_prime(product))


def test_what_is_encrypted_comes_back(made: Made) -> None:
    """Every number below t, after the switch to one prime too."""
    assert (opened(made, made.ring.encrypt(made.secret, made.message)) == made.message).all()
    few = opened(made, made.ring.encrypt(made.secret, made.message[:5]))
    assert (few[:5] == made.message[:5]).all()
    assert not few[5:].any()


def test_what_seal_compresses_says_nothing_of_the_message(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power of X is a row of a few numbers once it is transformed, which compress well and soon; none is seen to."""
    made.ring.encrypt(made.secret, made.message)  # draws the mask
    seen: list[int] = []
    loading = serial.load_ciphertext

    def watched(level: Any, words: serial.Words, **given: Any) -> Any:
        seen.append(len(zlib.compress(words.tobytes(), 1)))
        return loading(level, words, **given)

    monkeypatch.setattr(serial, "load_ciphertext", watched)
    for power in (0, 1, 16):
        made.ring.encrypt(made.secret, np.eye(1, 32, power, dtype=np.int64)[0])
    made.ring.encrypt(made.secret, np.zeros(4, dtype=np.int64), like_any=True)
    made.ring.encrypt(made.secret, np.zeros(4, dtype=np.int64))
    assert len(seen) == 4  # and the last one is known to be nothing
    assert max(seen) < 1.01 * min(seen)


def test_the_same_message_never_encrypts_alike(made: Made) -> None:
    """Seed, words and noise are fresh every time."""
    first, second = (made.ring.encrypt(made.secret, made.message) for _ in range(2))
    assert first.seed != second.seed
    assert (first.words == second.words).mean() < 0.01


def test_words_look_uniform(made: Made) -> None:
    """To whoever lacks the key, even for a message of zeros."""
    words = made.ring.encrypt(made.secret, np.zeros(1, dtype=np.int64)).words
    for row, prime in zip(words, made.ring.primes, strict=True):
        shares = np.histogram(row.astype(float) / prime, bins=8, range=(0, 1))[0] / len(row)
        assert np.abs(shares - 1 / 8).max() < 0.04


def test_the_noise_is_a_fresh_centred_binomial(made: Made) -> None:
    """Encrypting a zero and taking c0 + c1·s leaves the noise: small, centred, of standard deviation 3.24."""
    seeded = made.ring.encrypt(made.secret, np.zeros(1, dtype=np.int64))
    whole = made.ring.expand(seeded)
    primes, degree = len(made.ring.primes), made.ring.degree
    turned = made.ring.times(whole, serial.load_ntt_plaintext(made.ring._data, made.key[:primes]))  # (c0·s, c1·s)
    c1s = serial.ciphertext_words(turned, primes, degree)[1]
    sums = np.stack(
        [(c0 + row) % np.uint64(prime) for c0, row, prime in zip(seeded.words, c1s, made.ring.primes, strict=True)]
    )
    phase = serial.load_ciphertext(made.ring._data, np.stack([sums, sums]), ntt=True)
    made.ring.evaluator.transform_from_ntt_inplace(phase)
    for row, prime in zip(serial.ciphertext_words(phase, primes, degree)[0], made.ring.primes, strict=True):
        noise = (row.astype(np.int64) + prime // 2) % prime - prime // 2
        assert np.abs(noise).max() <= 21
        assert abs(noise.mean()) < 0.3
        assert 3.0 < noise.std() < 3.5


def test_another_key_reads_nothing(made: Made) -> None:
    """A message is for the holder of the key alone."""
    stranger = made.ring.secret(made.ring.new_secret())
    got = opened(made._replace(secret=stranger), made.ring.encrypt(made.secret, made.message))
    assert (got == made.message).mean() < 0.01


def test_what_is_in_clear_is_read_under_any_key(made: Made) -> None:
    """It hides nothing, and is for blocks of a public matrix that hold nothing but zeros."""
    words = made.ring.in_clear(next(made.ring.plaintexts(made.message[None])))
    assert (made.ring.decrypt(made.secret, words) == made.message).all()
    assert not words[1].any()


def test_words_past_a_prime_are_refused(made: Made) -> None:
    """Whatever a stranger sends is held against the primes before SEAL sees it."""
    seeded = made.ring.encrypt(made.secret, made.message)
    words = seeded.words.copy()
    words[-1, 7] = made.ring.primes[-1]
    with pytest.raises(ValueError, match="not below the prime"):
        made.ring.expand(Seeded(seeded.seed, words))
    with pytest.raises(ValueError, match="not below the prime"):
        made.ring.secret(np.full((len(made.ring.secret_primes), made.ring.degree), 2**60, dtype=np.uint64))


def test_a_modulus_beyond_the_table_is_refused() -> None:
    """There is no way to build it, whatever SEAL would say."""
    with pytest.raises(PackageError, match="128-bit security"):
        Ring(4096, (55, 55), 1 << 20)


def test_the_noise_distribution_is_seals() -> None:
    """Two strings of 21 bits: variance 10.5, kurtosis just below a Gaussian's, and every bit counts."""
    drawn = centred_binomial(400_000)
    assert abs(drawn.mean()) < 0.03
    assert abs(drawn.var() - 10.5) < 0.15  # six deviations of what is estimated; a bit less would be 0.5
    assert abs((drawn.astype(float) ** 4).mean() / drawn.var() ** 2 - (3 - 1 / 21)) < 0.05
    assert centred_binomial(1, lambda size: b"\xff\xff\x00\x00\x1f\x00"[:size]).tolist() == [21]
    assert centred_binomial(1, lambda size: b"\x00\x00\xff\xff\xe0\x03"[:size]).tolist() == [-21]
