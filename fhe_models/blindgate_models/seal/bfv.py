"""BFV over a few primes, by coefficients: exact integers modulo t, products with known polynomials, no evaluation key.

A `Ring` here makes secret keys and symmetric ciphertexts and nothing else. SEAL insists on one more, *special* prime for
key switching as soon as there are two; nothing is ever encrypted modulo that prime, since public, relinearisation and
Galois keys are the only things that would be and there is no way here to make one. So what an attacker can see is modulo
the data primes, and it is those that are checked against the 128-bit table.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from blindgate_models.seal import serial
from blindgate_models.seal.serial import Ciphertext, Level, Plaintext, Secret, Seeded, Words
from blindgate_models.security import MODULUS_BITS_AT_128, require_128_bits

SPECIAL_BITS: Final = 17
"""The fewest bits in which SEAL finds a prime that is 1 modulo 2N, for every N here."""


class Ring:
    """Z_t[X]/(X^N + 1) under BFV.

    Attributes:
        degree: N.
        primes: the data primes, whose product is Q, in SEAL's order: a switch drops the last.
        secret_primes: those and the special one, which the rows of a secret key are modulo.
        plain_modulus: t.
        evaluator: SEAL's evaluator. It raises `ValueError` or `RuntimeError`, the latter also where a result would be
            transparent.
    """

    def __init__(self, degree: int, data_bits: Sequence[int], plain_modulus: int) -> None:
        """Build the ring. Raises `PackageError` below 128-bit security, `ValueError` on what SEAL refuses."""
        require_128_bits(degree, data_bits)
        special = [SPECIAL_BITS] if len(data_bits) > 1 else []
        parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        parameters.set_poly_modulus_degree(degree)
        parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(degree, [*data_bits, *special]))
        parameters.set_plain_modulus(plain_modulus)
        stock = sum(data_bits) + sum(special) <= MODULUS_BITS_AT_128[degree]
        level = (
            sealapi.SEC_LEVEL_TYPE.TC128 if stock else sealapi.SEC_LEVEL_TYPE.NONE
        )  # the check above is the stricter one
        expand_chain = True
        self._context = sealapi.SEALContext(parameters, expand_chain, level)
        if not self._context.parameters_set():
            msg = f"SEAL refuses degree {degree} with {list(data_bits)} bits: {self._context.parameters_error_name()}"
            raise ValueError(msg)
        self.secret_primes: tuple[int, ...] = tuple(modulus.value() for modulus in parameters.coeff_modulus())
        self.degree = degree
        self.primes = self.secret_primes[: len(data_bits)]
        self.plain_modulus = plain_modulus
        self.evaluator = sealapi.Evaluator(self._context)
        self._keys = Level(self._context, self._context.key_parms_id(), self.secret_primes, degree)
        self._data = Level(self._context, self._context.first_parms_id(), self.primes, degree)
        self._last = Level(self._context, self._context.last_parms_id(), self.primes[:1], degree)

    def new_secret(self) -> Words:
        """Draw a secret key, `(primes and the special one, degree)` words, from SEAL's generator."""
        key = sealapi.KeyGenerator(self._context).secret_key()
        return serial.secret_words(key, len(self.secret_primes), self.degree)

    def secret(self, words: Words) -> Secret:
        """Load a secret key from its words. Raises `ValueError` when they are no key's of this ring."""
        return serial.load_secret(self._keys, words)

    def plaintext(self, coefficients: NDArray[np.int64]) -> Plaintext:
        """A polynomial, `(degree,)` or fewer coefficients, each from 0 to t - 1."""
        if coefficients.min() < 0 or coefficients.max() >= self.plain_modulus:
            msg = "a coefficient is not below the plain modulus"
            raise ValueError(msg)
        return serial.load_plaintext(self._context, coefficients.astype(np.uint64))

    def multiplier(self, coefficients: NDArray[np.int64]) -> Plaintext:
        """The same, ready for `times`. SEAL takes c for c - t where c is over t/2, so noise grows by the centred numbers."""
        plaintext = self.plaintext(coefficients)
        self.evaluator.transform_to_ntt_inplace(plaintext, self._data.parms_id)
        return plaintext

    def encrypt(self, secret: Secret, coefficients: NDArray[np.int64]) -> Seeded:
        """Encrypt under the secret key with a fresh seed. Noise: at most `security.NOISE_BOUND` a coefficient, and ½."""
        serialisable = secret.encryptor.encrypt_symmetric(self.plaintext(coefficients))
        return serial.seeded(serialisable, len(self.primes), self.degree)

    def expand(self, seeded: Seeded) -> Ciphertext:
        """Make the ciphertext whose c1 the seed gives, ready for `times`. Raises `ValueError` on words past a prime."""
        ciphertext = serial.expand(self._data, seeded, ntt=False)
        self.evaluator.transform_to_ntt_inplace(ciphertext)
        return ciphertext

    def times(self, ciphertext: Ciphertext, multiplier: Plaintext) -> Ciphertext:
        """Multiply by a polynomial that is not zero. Raises `RuntimeError` when the product is transparent."""
        product = sealapi.Ciphertext()
        self.evaluator.multiply_plain(ciphertext, multiplier, product)
        return product

    def from_words(self, words: Words) -> Ciphertext:
        """A ciphertext over all data primes from its coefficients, `(2, primes, degree)`."""
        return serial.load_ciphertext(self._data, words, ntt=False)

    def to_last_prime(self, ciphertext: Ciphertext) -> Words:
        """Switch a sum of products to the first data prime alone: its coefficients, `(2, degree)`."""
        while ciphertext.coeff_modulus_size() > 1:
            self.evaluator.mod_switch_to_next_inplace(ciphertext)
        return serial.ciphertext_words(ciphertext, 1, self.degree).reshape(2, self.degree)

    def in_clear(self, plaintext: Plaintext) -> Words:
        """A polynomial as `to_last_prime` would give it, but hidden from nobody: c1 is 0. SEAL makes no such thing."""
        numbers = serial.plaintext_words(plaintext, self.degree).tolist()
        scaled = [(number * self.primes[0] + self.plain_modulus // 2) // self.plain_modulus for number in numbers]
        return np.stack([np.array(scaled, dtype=np.uint64), np.zeros(self.degree, dtype=np.uint64)])

    def decrypt(self, secret: Secret, words: Words) -> NDArray[np.int64]:
        """Decrypt what `to_last_prime` gave: `(degree,)` numbers modulo t. Raises `ValueError` on words past the prime."""
        ciphertext = serial.load_ciphertext(self._last, words, ntt=False)
        plaintext = sealapi.Plaintext()
        secret.decryptor.decrypt(ciphertext, plaintext)
        return serial.plaintext_words(plaintext, self.degree).astype(np.int64)
