"""The ring of slots: what rotations, squares and drops do, and that keys come back from words alone."""

import numpy as np
import pytest

from blindgate_models.seal.serial import Seeded
from blindgate_models.seal.slots import RELINEARISATION, Ring
from blindgate_protocol.errors import PackageError

SCALE = 2.0**45
STEPS = (1, 8)


@pytest.fixture(scope="module")
def ring() -> Ring:
    """Three data primes."""
    return Ring(8192, [60, 30, 30], 60)


def test_a_square_of_a_rotation_decrypts_to_it(ring: Ring) -> None:
    """Through words and seeds in both directions."""
    words, keys = ring.new_keys(STEPS)
    secret, switching = ring.secret(words), ring.switching(keys)
    values = np.random.default_rng(0).uniform(-1, 1, ring.slots)
    ciphertext = ring.expand(ring.encrypt(secret, values, SCALE), SCALE)
    rotated = ring.rotated(ciphertext, 8, switching)
    ring.square(rotated, switching)
    ring.drop(rotated, 2)
    scale = SCALE**2 / ring.primes[1] / ring.primes[2]
    back = ring.from_words(ring.to_words(rotated), scale)
    assert np.abs(ring.decrypt(secret, back) - np.roll(values, -8) ** 2).max() < 1e-4


def test_products_and_shifts_are_slot_by_slot(ring: Ring) -> None:
    """With weights in the clear."""
    words, _ = ring.new_keys(())
    secret = ring.secret(words)
    rng = np.random.default_rng(1)
    values, weights, bias = rng.uniform(-1, 1, (3, ring.slots))
    product = ring.times(ring.expand(ring.encrypt(secret, values, SCALE), SCALE), ring.encode(weights, 3, SCALE))
    ring.drop(product, 1)
    ring.shift(product, bias)
    ring.add(product, product)
    assert np.abs(ring.decrypt(secret, product) - 2 * (values * weights + bias)).max() < 1e-5


def test_only_the_keys_asked_for_are_made(ring: Ring) -> None:
    """A rotation by another step has no key, and SEAL says so; each key is a seed and words below the primes."""
    words, keys = ring.new_keys(STEPS)
    assert set(keys) == {RELINEARISATION, *STEPS}
    for key in keys.values():
        assert len(key) == len(ring.primes)
        for seeded in key:
            assert len(seeded.seed) == 64
            assert (seeded.words.max(axis=1) < np.array(ring.key_primes, dtype=np.uint64)).all()
    values = np.zeros(ring.slots)
    ciphertext = ring.expand(ring.encrypt(ring.secret(words), values, SCALE), SCALE)
    with pytest.raises((ValueError, RuntimeError)):
        ring.rotated(ciphertext, 3, ring.switching(keys))


def test_seeds_are_fresh(ring: Ring) -> None:
    """Two seeds alike would give a difference of plaintexts away."""
    words, keys = ring.new_keys(STEPS)
    secret = ring.secret(words)
    seeds = [ring.encrypt(secret, np.zeros(ring.slots), SCALE).seed for _ in range(20)]
    seeds += [seeded.seed for key in keys.values() for seeded in key]
    assert len(set(seeds)) == len(seeds)


def test_words_past_their_prime_never_reach_seal(ring: Ring) -> None:
    """In inputs, keys and results."""
    words, keys = ring.new_keys(STEPS)
    too_large = np.full((3, ring.degree), 2**63, dtype=np.uint64)
    with pytest.raises(ValueError, match="below the prime"):
        ring.expand(Seeded(bytes(64), too_large), SCALE)
    with pytest.raises(ValueError, match="below the prime"):
        ring.from_words(too_large[:2], SCALE)
    with pytest.raises(ValueError, match="below the prime"):
        ring.secret(np.full_like(words, 2**63))
    bad = {**keys, 8: [Seeded(bytes(64), np.full((4, ring.degree), 2**63, dtype=np.uint64))] * 3}
    with pytest.raises(ValueError, match="below the prime"):
        ring.switching(bad)


@pytest.mark.parametrize(
    ("degree", "data_bits", "special_bits"),
    [
        pytest.param(8192, [60, 60, 60], 60, id="beyond the table by the special prime"),
        pytest.param(4096, [60, 60], 20, id="a smaller ring"),
        pytest.param(8000, [40, 40], 40, id="no power of two"),
        pytest.param(32768, [20] * 16, 40, id="primes that there are not"),
    ],
)
def test_parameters_below_128_bits_or_without_primes_are_refused(
    degree: int, data_bits: list[int], special_bits: int
) -> None:
    """There is no switch that turns it off."""
    with pytest.raises(PackageError):
        Ring(degree, data_bits, special_bits)
