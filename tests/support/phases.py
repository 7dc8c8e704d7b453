"""What only the holder of a secret key can see of a BGV ciphertext: its phase, coefficient by coefficient."""

import math

import numpy as np
from numpy.typing import NDArray

from blindgate_models.bitpacking import packed_bytes, unpack
from blindgate_models.seal import serial
from blindgate_models.seal.bgv import Ring
from blindgate_models.seal.serial import Ciphertext, Words


def secret_words(ring: Ring, secret: bytes) -> Words:
    """The words of a client's secret."""
    position, rows = 36, []
    for prime in ring.secret_primes:
        size = packed_bytes(ring.degree, prime.bit_length())
        rows.append(unpack(secret[position : position + size], ring.degree, prime.bit_length()))
        position += size
    return np.stack(rows)


def phase(ring: Ring, secret: Words, ciphertext: Ciphertext) -> NDArray[np.object_]:
    """c_0 + c_1 s + … + c_k s^k modulo Q, around 0, `(degree,)` integers of any length. `secret` as `Ring.new_secret` gives it."""
    words = serial.ciphertext_words(ciphertext, len(ring.primes), ring.degree)
    rows = []
    for row, prime in enumerate(ring.primes):
        total = np.zeros(ring.degree, dtype=object)
        for polynomial in words[::-1, row].astype(object):
            total = (total * secret[row].astype(object) + polynomial) % prime
        rows.append(total.astype(np.uint64))
    residues = coefficients(ring, np.stack(rows))
    modulus = math.prod(ring.primes)
    parts = [modulus // prime * pow(modulus // prime, -1, prime) for prime in ring.primes]
    whole = sum(residue.astype(object) * part for residue, part in zip(residues, parts, strict=True)) % modulus
    return np.where(whole > modulus // 2, whole - modulus, whole)


def coefficients(ring: Ring, words: Words) -> Words:
    """A polynomial `(primes, degree)` out of NTT form."""
    ciphertext = serial.load_ciphertext(ring._untransformed, np.stack([words, words]), ntt=True)
    ring._transformer.transform_from_ntt_inplace(ciphertext)
    return np.asarray(serial.ciphertext_words(ciphertext, len(ring.primes), ring.degree)[0])


def noise(ring: Ring, secret: Words, ciphertext: Ciphertext) -> NDArray[np.float64]:
    """The phase in multiples of t, which is the noise but for a message of at most one half."""
    return np.asarray((phase(ring, secret, ciphertext) / ring.plain_modulus).astype(np.float64))
